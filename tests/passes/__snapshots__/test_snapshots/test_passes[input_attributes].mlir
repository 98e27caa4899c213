// ----- import
cgc.graph @input_attributes level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.input_attr %0[0] : !cgc.object
    %2 = cgc.input_attr %0["scale"] : !cgc.object
    %3 = cgc.call @a::@add(%1, %2) : !cgc.object
    %4 = cgc.input_attr %0 attr "bias" : !cgc.object
    %5 = cgc.call @b::@add(%4, 1) : !cgc.object
    cgc.output [%3, %5]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @input_attributes level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.input_attr %0[0] : !cgc.object
    %2 = cgc.transfer %1 from @driver to [@a] via shm reason "same node" : !cgc.object
    %3 = cgc.input_attr %0["scale"] : !cgc.object
    %4 = cgc.transfer %3 from @driver to [@a] via shm reason "same node" : !cgc.object
    %5 = cgc.call @a::@add(%2, %4) : !cgc.object
    %6 = cgc.transfer %5 from @a to [@driver] via shm reason "same node" : !cgc.object
    %7 = cgc.input_attr %0 attr "bias" : !cgc.object
    %8 = cgc.transfer %7 from @driver to [@b] via shm reason "same node" : !cgc.object
    %9 = cgc.call @b::@add(%8, 1) : !cgc.object
    %10 = cgc.transfer %9 from @b to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%6, %10]
  }
}

// ----- after pair-comm
cgc.graph @input_attributes level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    %1 = cgc.input_attr %0[0] : !cgc.object
    cgc.send %1 message 0 to [@a] via shm order 0
    %2 = cgc.input_attr %0["scale"] : !cgc.object
    cgc.send %2 message 1 to [@a] via shm order 1
    %3 = cgc.input_attr %0 attr "bias" : !cgc.object
    cgc.send %3 message 3 to [@b] via shm order 3
    %4 = cgc.recv message 2 from @a via shm order 8 : !cgc.object
    %5 = cgc.recv message 4 from @b via shm order 9 : !cgc.object
    cgc.output [%4, %5]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 2 : !cgc.object
    %1 = cgc.recv message 1 from @driver via shm order 4 : !cgc.object
    %2 = cgc.call @a::@add(%0, %1) : !cgc.object
    cgc.send %2 message 2 to [@driver] via shm order 6
  }
  cgc.program @b {
    %0 = cgc.recv message 3 from @driver via shm order 5 : !cgc.object
    %1 = cgc.call @b::@add(%0, 1) : !cgc.object
    cgc.send %1 message 4 to [@driver] via shm order 7
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @input_attributes level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @driver to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @a to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    %1 = cgc.input_attr %0[0] : !cgc.object
    %2 = cgc.input_attr %0["scale"] : !cgc.object
    cgc.write @c0(%1, %2) messages [0, 1] order 0
    %3 = cgc.input_attr %0 attr "bias" : !cgc.object
    cgc.write @c1(%3) messages [3] order 1
    %4 = cgc.read @c2 messages [2] order 6 : !cgc.object
    %5 = cgc.read @c3 messages [4] order 7 : !cgc.object
    cgc.output [%4, %5]
  }
  cgc.program @a {
    %0, %1 = cgc.read @c0 messages [0, 1] order 2 : !cgc.object, !cgc.object
    %2 = cgc.call @a::@add(%0, %1) : !cgc.object
    cgc.write @c2(%2) messages [2] order 4
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [3] order 3 : !cgc.object
    %1 = cgc.call @b::@add(%0, 1) : !cgc.object
    cgc.write @c3(%1) messages [4] order 5
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of input_attributes (v2)  registers=5
//   0  r0 = input[0]
//   1  r1 = input['scale']
//   2  r2 = input['bias']
//   3  write c0 r0, r1    drop r0, r1
//   4  write c1 r2    drop r2
//   5  r3 = read c2
//   6  r4 = read c3
//   7  output r3, r4
//
// program @a of input_attributes (v2)  registers=3
//   0  r0, r1 = read c0
//   1  r2 = call add(r0, r1)    drop r0, r1
//   2  write c2 r2    drop r2
//
// program @b of input_attributes (v2)  registers=2
//   0  r0 = read c1
//   1  r1 = call add(r0, 1)    drop r0
//   2  write c3 r1    drop r1
