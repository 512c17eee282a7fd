"""Fields and layer types that forks of Caffe added, to say in an error where a file comes from."""

import itertools

from caffe_compat.proto.fork_numbers import built_in

_SSD = "SSD"
_NVCAFFE = "NVCaffe"
_INTEL = "Intel Caffe"
_DEEPLAB = "DeepLab"
_SEGNET = "SegNet, ENet or PSPNet"
_RISTRETTO = "Ristretto"
_DEEPHI = "DeePhi (Xilinx) Caffe"
_RCNN = "Fast/Faster R-CNN"
_FLOWNET = "FlowNet"
_OPENPOSE = "OpenPose"
_SHUFFLENET = "ShuffleNet"

#: field name -> fork
FORK_FIELDS = {
    **dict.fromkeys(
        [
            "annotated_data_param",
            "detection_evaluate_param",
            "detection_output_param",
            "multibox_loss_param",
            "norm_param",
            "permute_param",
            "prior_box_param",
            "video_data_param",
            "resize_param",
            "distort_param",
            "expand_param",
            "noise_param",
            "emit_constraint",
            "crop_h",
            "crop_w",
            "eval_type",
            "ap_version",
            "show_per_class_result",
            "plateau_winsize",
        ],
        _SSD,
    ),
    **dict.fromkeys(
        [
            "forward_type",
            "backward_type",
            "forward_math",
            "backward_math",
            "default_forward_type",
            "default_backward_type",
            "default_forward_math",
            "default_backward_math",
            "default_conv_algos_override",
            "default_cudnn_math_override",
            "conv_algos_override",
            "cudnn_convolution_algo_seeker",
            "cudnn_math_override",
            "global_grad_scale",
            "global_grad_scale_adaptive",
            "solver_data_type",
            "store_blobs_in_old_format",
            "reduce_buckets",
            "min_lr",
            "rampup_interval",
            "rampup_lr",
            "local_lr_auto",
            "local_gw_ratio",
            "larc",
            "larc_policy",
            "larc_turbo",
            "img_rand_resize_lower",
            "img_rand_resize_upper",
            "use_gpu_transform",
            "parser_threads",
            "detectnet_augmentation_param",
            "detectnet_groundtruth_param",
        ],
        _NVCAFFE,
    ),
    **dict.fromkeys(
        [
            "disabled_update",
            "multinode",
            "mn_param",
            "mn_grad_compress_param",
            "compile_net_state",
            "bn_stats_batch_size",
            "warmup_iter",
            "warmup_start_lr",
        ],
        _INTEL,
    ),
    **dict.fromkeys(
        [
            "adaptive_bilateral_filter_param",
            "densecrf_param",
            "domain_transform_param",
            "hole",
            "hole_h",
            "hole_w",
            "image_dim_prefetch_param",
            "interp_param",
            "label_type",
            "mat_read_param",
            "mat_write_param",
            "seg_accuracy_param",
            "unique_label_param",
        ],
        _DEEPLAB,
    ),
    **dict.fromkeys(["bn_param", "dense_image_data_param", "upsample_param", "weight_by_label_freqs"], _SEGNET),
    "multi_stage_meanfield_param": "CRF-RNN",
    **dict.fromkeys(["fixed_param", "quantize_param"], _DEEPHI),
    **dict.fromkeys(["roi_pooling_param", "smooth_l1_loss_param", "proposal_param"], _RCNN),
    **dict.fromkeys(["psroi_pooling_param", "box_annotator_ohem_param"], "R-FCN"),
    **dict.fromkeys(
        ["augmentation_param", "correlation_param", "coeff_schedule_param", "custom_data_param", "l1_loss_param"],
        _FLOWNET,
    ),
    **dict.fromkeys(["cpm_transform_param", "op_transform_param"], _OPENPOSE),
    "shuffle_channel_param": _SHUFFLENET,
    "center_loss_param": "the center loss (face recognition) fork",
    "margin_inner_product_param": "SphereFace",
}

#: layer type -> fork
FORK_LAYER_TYPES = {
    **dict.fromkeys(["DepthwiseConvolution", "ConvolutionDepthwise"], "MobileNet's depthwise convolution"),
    **dict.fromkeys(
        [
            "AnnotatedData",
            "DetectionEvaluate",
            "DetectionOutput",
            "MultiBoxLoss",
            "Normalize",
            "Permute",
            "PriorBox",
            "VideoData",
        ],
        _SSD,
    ),
    **dict.fromkeys(["BN", "DenseImageData", "Upsample"], _SEGNET),
    "SpatialDropout": "ENet",
    **dict.fromkeys(["DenseCRF", "DomainTransform", "ImageSegData", "Interp", "MatRead", "MatWrite"], _DEEPLAB),
    **dict.fromkeys(["SegAccuracy", "UniqueLabel"], _DEEPLAB),
    "MultiStageMeanfield": "CRF-RNN",
    **dict.fromkeys(["ConvolutionRistretto", "FcRistretto", "DeconvolutionRistretto", "LRNRistretto"], _RISTRETTO),
    **dict.fromkeys(["FixedNeuron", "DeephiResize"], _DEEPHI),
    **dict.fromkeys(["ROIPooling", "SmoothL1Loss"], _RCNN),
    **dict.fromkeys(["PSROIPooling", "BoxAnnotatorOHEM"], "R-FCN"),
    **dict.fromkeys(["Correlation", "FlowWarp", "L1Loss", "Resample"], _FLOWNET),
    "CPMData": _OPENPOSE,
    "ShuffleChannel": _SHUFFLENET,
    "Axpy": "SENet",
    "CenterLoss": "the center loss (face recognition) fork",
    "MarginInnerProduct": "SphereFace",
    "DetectNetTransformation": _NVCAFFE,
}


def fork_of_field(name: str, message: str = "LayerParameter") -> str | None:
    """The fork, or the forks, that a field of a message is known from, or None."""
    forks = (numbering.name for numbering in built_in() if name in numbering.table.get(message, {}).values())
    return FORK_FIELDS.get(name) or " or ".join(itertools.islice(forks, 3)) or None


def fork_of_layer_type(name: str) -> str | None:
    """The fork that a layer type is known from, or None."""
    return FORK_LAYER_TYPES.get(name)
