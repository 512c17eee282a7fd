"""AnnotatedData: images with boxes from an LMDB or LevelDB, the training data of SSD."""

import torch

from caffe_compat.data.annotated_source import ROW, AnnotatedSource
from caffe_compat.data.annotated_transformer import AnnotatedTransformer
from caffe_compat.data.database import open_database
from caffe_compat.data.identity import database_identity
from caffe_compat.data.source_layer import SourceLayer, image_shape_without_data
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register
from caffe_compat.proto import caffe_pb2
from caffe_compat.random import generator

_READ = ("batch_sampler", "label_map_file", "anno_type")


@register("AnnotatedData")
class AnnotatedData(SourceLayer):
    """Tops: data (N, C, H, W) and, if there is a second top, boxes (1, 1, B, 8) of the whole batch.

    A row is item, label, instance, xmin, ymin, xmax, ymax, difficult; a batch without boxes has one row of -1.  Records
    without a type have a label each instead: (N).  ``label_map_file`` is for people and scripts: as in SSD, the layer
    does not read it.
    """

    param_fields = ("annotated_data_param", "data_param", "transform_param")
    fork_fields = (
        "transform_param.crop_h",
        "transform_param.crop_w",
        "transform_param.resize_param",
        "transform_param.noise_param",
        "transform_param.distort_param",
        "transform_param.expand_param",
        "transform_param.emit_constraint",
    )
    top_count = (1, 2)
    tops_depend_on_data = True
    state_ignores = ("data_param.prefetch", "data_param.backend", "annotated_data_param.label_map_file")

    def setup(self, *bottom_shapes: Shape) -> None:
        """Open the database; take as many draws of the random stream as SSD does."""
        param, anno, transform = self.param.data_param, self.param.annotated_data_param, self.param.transform_param
        if param.batch_size < 1:
            self.fail(f"data_param.batch_size is {param.batch_size}; expected at least 1")
        if param.rand_skip:
            self.warn("data_param.rand_skip has no effect in SSD, and none here; remove it")
        unread = [field.name for field, _ in anno.ListFields() if field.name not in _READ]
        if unread:
            fields = ", ".join(unread)
            self.fail(f"annotated_data_param.{fields} is not SSD's but of a later fork, and not read; remove it")
        mode = transform.resize_param.Resize_mode.Name(transform.resize_param.resize_mode)
        if mode == "FIT_SMALL_SIZE" and param.batch_size > 1:
            self.fail(
                f"data_param.batch_size is {param.batch_size}; expected 1 with FIT_SMALL_SIZE, whose sizes differ"
            )
        self.prefetch_depth = max(1, param.prefetch)
        anno_type = caffe_pb2.AnnotatedDatum.AnnotationType.Name(anno.anno_type) if anno.HasField("anno_type") else None
        with self._errors_with_place():
            transformer = AnnotatedTransformer(transform, self.phase, anno.batch_sampler)
            generator().raw()  # for the thread that reads
            transformer.start_random()
            self.source: AnnotatedSource = AnnotatedSource(
                open_database(param.source),
                transformer,
                param.batch_size,
                anno_type=anno_type,
                rank=self.context.solver_rank if self.phase == "TRAIN" else 0,
                rank_count=self.context.solver_count if self.phase == "TRAIN" else 1,
                skip_bad_records=self.context.skip_bad_records,
            )
            self._content = database_identity(self.source.database)
        transformer.start_random()  # anew when the layer is ready, as in Caffe
        transformer.start_thread()

    def make_batches_on(self, device: torch.device) -> bool:
        """Never: OpenCV transforms the images."""
        return False

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) of the first record transformed, and (1, 1, its boxes, 8), or (N)."""
        batch = self.param.data_param.batch_size
        label: Shape = (1, 1, max(1, self.source.first_boxes), ROW) if self.source.has_boxes else (batch,)
        return [(batch, *self.source.first_shape), label][: len(self.param.top)]

    def shapes_without_data(self) -> list[Shape]:
        """By ``resize_param`` and ``crop_size``; one box."""
        transform = self.param.transform_param
        height, width = transform.resize_param.height, transform.resize_param.width
        batch = self.param.data_param.batch_size
        shapes: list[Shape] = [(batch, *image_shape_without_data(self, height, width)), (1, 1, 1, ROW)]
        return shapes[: len(self.param.top)]

    def source_identity(self) -> dict[str, str]:
        """With the database."""
        return {**super().source_identity(), "content": self._content}
