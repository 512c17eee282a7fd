"""ImageSegData: images and the labels of their pixels, from files named in a list (DeepLab, PSPNet)."""

from caffe_compat.data.pair_list import PairList
from caffe_compat.data.segmentation import ScaledTransform
from caffe_compat.data.segmentation_source import SegmentationSource
from caffe_compat.data.source_layer import SourceLayer, image_shape_without_data
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.random import generator


@register("ImageSegData")
class ImageSegData(SourceLayer):
    """Tops: data (N, C, H, W), labels (N, 1, H, W), and optionally sizes (N, 1, 1, 2): how much of the height and width
    is image.

    A line of ``source`` is `image label`: with ``label_type`` PIXEL a label image, IMAGE (the default) one label for
    all pixels, NONE nothing (all pixels have the ``ignore_label``).  Images are resized by one of
    ``transform_param.scale_factors``, and filled up with the mean value and the ``ignore_label`` to the crop.
    """

    param_fields = ("image_data_param", "transform_param")
    fork_fields = (
        "image_data_param.ignore_label",
        "image_data_param.label_type",
        "transform_param.scale_factors",
        "transform_param.crop_width",
        "transform_param.crop_height",
    )
    top_count = (2, 3)

    def setup(self, *bottom_shapes: Shape) -> None:
        """Read the list; take as many draws of the random stream as DeepLab does."""
        param, transform = self.param.image_data_param, self.param.transform_param
        if param.batch_size < 1:
            self.fail(f"image_data_param.batch_size is {param.batch_size}; expected at least 1")
        if transform.HasField("mean_file"):
            self.fail("transform_param.mean_file is not for ImageSegData, in DeepLab too; give mean_value")
        if (transform.crop_height > 0) != (transform.crop_width > 0) or (transform.crop_size and transform.crop_height):
            self.fail("transform_param needs crop_size, or both crop_height and crop_width, or none of them")
        if (param.new_height > 0) != (param.new_width > 0):
            self.fail(
                f"image_data_param has new_height {param.new_height} and new_width {param.new_width}; "
                "set both or neither"
            )
        if any(not factor > 0 for factor in transform.scale_factors):
            self.fail(f"transform_param.scale_factors are {list(transform.scale_factors)}; expected numbers above 0")
        scaled = ScaledTransform(param, transform, self._make_transformer())
        scaled.start_random()
        with self._errors_with_place():
            pairs = PairList(param.source, need_second=scaled.label_type != "NONE")
            seed = generator().raw() if param.shuffle else None
            skip = generator().raw() % param.rand_skip if param.rand_skip else 0
            if skip >= len(pairs):
                self.fail(f"image_data_param.rand_skip chose to skip {skip} of {len(pairs)} images; make it smaller")
            self.source: SegmentationSource = SegmentationSource(
                pairs,
                scaled,
                param.batch_size,
                root=param.root_folder,
                shuffle_seed=seed,
                skip=skip,
                skip_bad_records=self.context.skip_bad_records,
            )
            self._image_shape = self.source.peek_shape()
        scaled.start_random()  # anew when the layer is ready, as in Caffe
        generator().raw()  # for its thread

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) of the first image transformed, (N, 1, H, W) and (N, 1, 1, 2)."""
        return self._shapes(self._image_shape)

    def shapes_without_data(self) -> list[Shape]:
        """By the crop, or ``new_height`` and ``new_width``."""
        param, transform = self.param.image_data_param, self.param.transform_param
        height, width = transform.crop_height or param.new_height, transform.crop_width or param.new_width
        return self._shapes(image_shape_without_data(self, height, width, color=param.is_color))

    def _shapes(self, image: Shape) -> list[Shape]:
        batch = self.param.image_data_param.batch_size
        shapes: list[Shape] = [(batch, *image), (batch, 1, *image[1:]), (batch, 1, 1, 2)]
        return shapes[: len(self.param.top)]

    def source_identity(self) -> dict[str, str]:
        """With the list, but not the image files."""
        return {**super().source_identity(), "content": self.source.pairs.identity()}
