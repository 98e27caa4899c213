// ----- import
cgc.graph @tensors_between_gpus level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via auto>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<gpu, via shm>
    %3 = cgc.call @c::@join(%1, %2) : !cgc.object
    cgc.output [%3]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @tensors_between_gpus level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via nccl>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<gpu, via shm>
    %3 = cgc.call @c::@join(%1, %2) : !cgc.object
    cgc.output [%3]
  }
}

// ----- after place-devices
cgc.graph @tensors_between_gpus level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:2"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@fwd(%1) : !cgc.tensor<default>
    %3 = cgc.transfer %2 from @a to [@b] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %4 = cgc.transfer %2 from @a to [@c] via nccl reason "the hint asks for nccl" : !cgc.tensor<default>
    %5 = cgc.call @b::@fwd(%3) : !cgc.tensor<gpu>
    %6 = cgc.copy %5 on @b reason "shm takes it from host memory" : !cgc.tensor<cpu>
    %7 = cgc.transfer %6 from @b to [@c] via shm reason "same node" : !cgc.tensor<cpu>
    %8 = cgc.copy %7 on @c reason "the hint asks for this device" : !cgc.tensor<gpu>
    %9 = cgc.call @c::@join(%4, %8) : !cgc.object
    %10 = cgc.transfer %9 from @c to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%10]
  }
}

// ----- after pair-comm
cgc.graph @tensors_between_gpus level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:2"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 4 from @c via shm order 7 : !cgc.object
    cgc.output [%1]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@b] via nccl order 2
    cgc.send %1 message 2 to [@c] via nccl order 3
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via nccl order 2 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<gpu>
    %2 = cgc.copy %1 on @b reason "shm takes it from host memory" : !cgc.tensor<cpu>
    cgc.send %2 message 3 to [@c] via shm order 4
  }
  cgc.program @c {
    %0 = cgc.recv message 2 from @a via nccl order 3 : !cgc.tensor<default>
    %1 = cgc.recv message 3 from @b via shm order 5 : !cgc.tensor<cpu>
    %2 = cgc.copy %1 on @c reason "the hint asks for this device" : !cgc.tensor<gpu>
    %3 = cgc.call @c::@join(%0, %2) : !cgc.object
    cgc.send %3 message 4 to [@driver] via shm order 6
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: nccl: streams are off; overlap-comm{streams} turns them on
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @tensors_between_gpus level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:1"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:2"]
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 nccl from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 nccl from @a to [@c] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@c] slots 10 slot_bytes 4096
  cgc.channel @c4 shm from @c to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c4 messages [4] order 7 : !cgc.object
    cgc.output [%1]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%1) messages [2] order 3
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 2 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<gpu>
    %2 = cgc.copy %1 on @b reason "shm takes it from host memory" : !cgc.tensor<cpu>
    cgc.write @c3(%2) messages [3] order 4
  }
  cgc.program @c {
    %0 = cgc.read @c2 messages [2] order 3 : !cgc.tensor<default>
    %1 = cgc.read @c3 messages [3] order 5 : !cgc.tensor<cpu>
    %2 = cgc.copy %1 on @c reason "the hint asks for this device" : !cgc.tensor<gpu>
    %3 = cgc.call @c::@join(%0, %2) : !cgc.object
    cgc.write @c4(%3) messages [4] order 6
  }
}

// ----- after verify-schedule: unchanged

