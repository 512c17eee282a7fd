"""Layers: one file per type, each with one ``@register("Type")`` class."""
