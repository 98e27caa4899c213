"""
Accelerators: what the runtime needs of a device, and nothing that names one.

`base` states the interface, `transfers` is the logic of streams, events and early reuse written against it, `cpu` and
`cuda` implement it. `find` is the way to an implementation; another kind of device registers itself with `register`.
"""
