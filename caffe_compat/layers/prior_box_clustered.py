"""PriorBoxClustered: boxes of given widths and heights around each cell of a feature map (Intel's fork)."""

from caffe_compat.layers.registry import register
from caffe_compat.layers.shared.example import Dice, Example
from caffe_compat.layers.shared.fields import refuse_fields
from caffe_compat.layers.shared.prior_boxes import PriorBoxLayer, Size


@register("PriorBoxClustered")
class PriorBoxClustered(PriorBoxLayer):
    """One box for each ``width`` and its ``height``, in pixels of the image; the other fields are PriorBox's."""

    def box_sizes(self) -> list[Size]:
        param = self.param.prior_box_param
        # "flip: false" asks for what this layer makes anyway; Intel's files have it.
        flip = ("flip",) if param.HasField("flip") and param.flip else ()
        plain = ("min_size", "max_size", "aspect_ratio", "additional_y_offset", *flip)
        refuse_fields(self, "prior_box_param", *plain, because="it is of PriorBox; fix the type")
        offsets = "only offset is supported, for both axes and all boxes"
        refuse_fields(self, "prior_box_param", "offset_h", "offset_w", because=offsets)
        widths, heights = [float(size) for size in param.width], [float(size) for size in param.height]
        if not widths or len(widths) != len(heights) or min(*widths, *heights) <= 0:
            self.fail(
                f"prior_box_param.width is {widths} and height {heights}; expected as many of each, at least 1, above 0"
            )
        return list(zip(widths, heights, strict=True))

    @classmethod
    def example(cls, dice: Dice) -> Example:
        boxes = [f"width: {dice.number(2, 30)} height: {dice.number(2, 30)}" for _ in range(dice.integer(1, 4))]
        fields = f"{' '.join(boxes)} clip: {dice.switch()} {dice.pick('', 'step: 8', 'step_h: 4 step_w: 6')}"
        return Example(f"prior_box_param {{ {fields} }}", [dice.normal(*dice.image()), dice.normal(1, 3, 32, 48)])
