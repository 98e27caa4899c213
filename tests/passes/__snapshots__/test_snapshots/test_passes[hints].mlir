// ----- import
cgc.graph @hints level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via auto>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<cpu, via auto>
    cgc.output %2
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @hints level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via shm>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<cpu, via shm>
    cgc.output %2
  }
}

// ----- after place-devices
cgc.graph @hints level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@fwd(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a to [@b] via shm reason "same node" : !cgc.tensor<default>
    %4 = cgc.call @b::@fwd(%3) : !cgc.tensor<cpu>
    %5 = cgc.transfer %4 from @b to [@driver] via shm reason "same node" : !cgc.tensor<cpu>
    cgc.output %5
  }
}

// ----- after pair-comm
cgc.graph @hints level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 2 from @b via shm order 5 : !cgc.tensor<cpu>
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@b] via shm order 2
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via shm order 3 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<cpu>
    cgc.send %1 message 2 to [@driver] via shm order 4
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @hints level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c2 messages [2] order 5 : !cgc.tensor<cpu>
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<cpu>
    cgc.write @c2(%1) messages [2] order 4
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of hints (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c2
//   3  output r1
//
// program @a of hints (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c1 r1    drop r1
//
// program @b of hints (v2)  registers=2
//   0  r0 = read c1
//   1  r1 = call fwd(r0)    drop r0
//   2  write c2 r1    drop r1
