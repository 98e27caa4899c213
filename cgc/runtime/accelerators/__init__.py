"""
Accelerators: what the runtime needs of a device, and nothing that names one.

`interface` states it, `transfers` is the logic of streams, events and early reuse written against it, `crossing` and
`lending` are how arrays travel, `cpu` and `cuda` implement the interface. `base.find` is the way to an implementation;
another kind of device registers itself with `base.register`.
"""
