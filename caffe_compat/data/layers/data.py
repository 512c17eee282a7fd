"""Data: images and labels from an LMDB or LevelDB."""

from caffe_compat.data.database import find_backend, open_database
from caffe_compat.data.database_source import DatabaseSource
from caffe_compat.data.identity import database_identity
from caffe_compat.data.source_layer import SourceLayer, draw_as_thread_starts, image_shape_without_data
from caffe_compat.layers.base import Shape
from caffe_compat.layers.registry import register


@register("Data")
class Data(SourceLayer):
    """Tops: data (N, C, H, W) and, if there is a second top, label (N)."""

    param_fields = ("data_param", "transform_param")
    fork_fields = ("transform_param.random_seed",)
    top_count = (1, 2)
    state_ignores = ("data_param.prefetch", "data_param.backend")  # what lies at source is in the content

    def setup(self, *bottom_shapes: Shape) -> None:
        """Open the database; take as many draws of the random stream as Caffe does."""
        param = self.param.data_param
        if param.batch_size < 1:
            self.fail(f"data_param.batch_size is {param.batch_size}; expected at least 1")
        if param.rand_skip:
            self.warn("data_param.rand_skip has no effect in Caffe 1.0, and none here; remove it")
        self.prefetch_depth = max(1, param.prefetch)
        transformer = self._make_transformer()
        transformer.start_random()
        with self._errors_with_place():
            found = find_backend(param.source)
            wanted = {0: "LEVELDB", 1: "LMDB"}[param.backend]
            if found not in (wanted, "SUBSET"):
                self.warn(f"data_param.backend is {wanted}, but {param.source} is {found} and is read as such")
            self.source: DatabaseSource = DatabaseSource(
                open_database(param.source),
                transformer,
                param.batch_size,
                rank=self.context.solver_rank if self.phase == "TRAIN" else 0,
                rank_count=self.context.solver_count if self.phase == "TRAIN" else 1,
                skip_bad_records=self.context.skip_bad_records,
            )
            self._image_shape = self.source.peek_shape()
            self._content = database_identity(self.source.database)  # now: another thread will read it
        forced = [name for name in ("force_color", "force_gray") if getattr(self.param.transform_param, name)]
        if forced and not self.source.first_is_encoded():
            self.warn(f"transform_param.{forced[0]} has no effect on raw records, only on encoded ones")
        draw_as_thread_starts(transformer)

    def infer_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        """(N, C, H, W) of the first record transformed, and (N)."""
        return self._shapes(self._image_shape)

    def shapes_without_data(self) -> list[Shape]:
        """By ``crop_size``."""
        return self._shapes(image_shape_without_data(self))

    def _shapes(self, image: Shape) -> list[Shape]:
        batch = self.param.data_param.batch_size
        return [(batch, *image), (batch,)][: len(self.param.top)]

    def source_identity(self) -> dict[str, str]:
        """With the database."""
        return {**super().source_identity(), "content": self._content}
