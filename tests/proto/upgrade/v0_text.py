"""Prototxt text of V0 nets."""

V0_DATA = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'


def v0_layer(fields: str, bottom: str = "data", top: str = "x") -> str:
    return f'layers {{ layer {{ {fields} }} bottom: "{bottom}" top: "{top}" }}\n'
