"""DenseImageData: images and images of labels, from files named in a list (SegNet)."""

from caffe_compat.data.pair_list import PairList
from caffe_compat.data.segmentation import DenseTransform
from caffe_compat.data.segmentation_source import SegmentationSource
from caffe_compat.data.source_layer import SourceLayer, image_shape_without_data
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.random import generator


@register("DenseImageData")
class DenseImageData(SourceLayer):
    """Tops: data (N, C, H, W), labels (N, 1, H, W): the values of the gray label images.

    A line of ``source`` is `image label`.  ``mirror`` and the crop are fields of dense_image_data_param; those of
    transform_param are refused, as in SegNet.  Labels are resized to the nearest pixel.
    """

    param_fields = ("dense_image_data_param", "transform_param")
    top_count = (2, 2)
    tops_depend_on_data = True  # batches of one image without a crop

    def setup(self, *bottom_shapes: Shape) -> None:
        """Read the list; take as many draws of the random stream as SegNet does, and one for mirrors and crops."""
        param, transform = self.param.dense_image_data_param, self.param.transform_param
        if param.batch_size < 1:
            self.fail(f"dense_image_data_param.batch_size is {param.batch_size}; expected at least 1")
        for first, second in (("new_height", "new_width"), ("crop_height", "crop_width")):
            if (getattr(param, first) > 0) != (getattr(param, second) > 0):
                self.fail(
                    f"dense_image_data_param has {first} {getattr(param, first)} and {second} "
                    f"{getattr(param, second)}; set both or neither"
                )
        if transform.mirror or transform.crop_size:
            self.fail(
                "transform_param.mirror and crop_size would not treat images and labels alike; set mirror, crop_height "
                "and crop_width in dense_image_data_param"
            )
        if param.mean_file:
            self.warn("dense_image_data_param.mean_file has no effect, as in SegNet; transform_param.mean_file has")
        dense = DenseTransform(param, self._make_transformer())
        with self._errors_with_place():
            pairs = PairList(param.source)
            seed = generator().raw() if param.shuffle else None
            skip = generator().raw() % param.rand_skip if param.rand_skip else 0
            if skip >= len(pairs):
                self.fail(
                    f"dense_image_data_param.rand_skip chose to skip {skip} of {len(pairs)} images; make it smaller"
                )
            dense.start_random()
            self.source: SegmentationSource = SegmentationSource(
                pairs,
                dense,
                param.batch_size,
                root=param.root_folder,
                shuffle_seed=seed,
                skip=skip,
                skip_bad_records=self.context.skip_bad_records,
            )
            self._image_shape = self.source.peek_shape()

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) of the first image transformed, and (N, 1, H, W)."""
        return self._shapes(self._image_shape)

    def shapes_without_data(self) -> list[Shape]:
        """By the crop, or ``new_height`` and ``new_width``."""
        param = self.param.dense_image_data_param
        height, width = param.crop_height or param.new_height, param.crop_width or param.new_width
        return self._shapes(image_shape_without_data(self, height, width, color=param.is_color))

    def _shapes(self, image: Shape) -> list[Shape]:
        batch = self.param.dense_image_data_param.batch_size
        return [(batch, *image), (batch, 1, *image[1:])]

    def source_identity(self) -> dict[str, str]:
        """With the list, but not the image files."""
        return {**super().source_identity(), "content": self.source.pairs.identity()}
