"""Layers that read or write files of data: one file per type, each with one ``@register("Type")`` class."""
