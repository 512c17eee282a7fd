"""Many glyphs, for a narrow network that is trained long: there frozen layers fail those that grew up with them."""

from reproduce.datasets.glyphs import PER_CLASS, Glyphs


class GlyphsLarge(Glyphs):
    """The glyphs with 200 training images of each class; the test images are the same."""

    name = "glyphs-large"
    usage = "glyphs-large"
    about = "the same, 200 a class, for a narrow network, trained long: the dip of BnB, in half an hour"
    prototxt = "miniature/glyphs-large"
    per_class = {**PER_CLASS, "train": 200}


DATA_SET = GlyphsLarge()
