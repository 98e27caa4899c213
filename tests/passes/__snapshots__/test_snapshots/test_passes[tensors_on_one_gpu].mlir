// ----- import
cgc.graph @tensors_on_one_gpu level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via auto>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<gpu, via auto>
    %3 = cgc.call @c::@join(%1, %2) : !cgc.object
    cgc.output [%3]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types
cgc.graph @tensors_on_one_gpu level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default, via cuda_ipc>
    %2 = cgc.call @b::@fwd(%1) : !cgc.tensor<gpu, via cuda_ipc>
    %3 = cgc.call @c::@join(%1, %2) : !cgc.object
    cgc.output [%3]
  }
}

// ----- after place-devices
cgc.graph @tensors_on_one_gpu level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@fwd(%1) : !cgc.tensor<default>
    %3, %4 = cgc.transfer %2 from @a to [@b, @c] via cuda_ipc reason "the devices see each other's memory" : !cgc.tensor<default>, !cgc.tensor<default>
    %5 = cgc.call @b::@fwd(%3) : !cgc.tensor<gpu>
    %6 = cgc.copy %5 on @b reason "the hint asks for this device" : !cgc.tensor<gpu>
    %7 = cgc.transfer %6 from @b to [@c] via cuda_ipc reason "the devices see each other's memory" : !cgc.tensor<gpu>
    %8 = cgc.call @c::@join(%4, %7) : !cgc.object
    %9 = cgc.transfer %8 from @c to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%9]
  }
}

// ----- after pair-comm
cgc.graph @tensors_on_one_gpu level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 3 from @c via shm order 8 : !cgc.object
    cgc.output [%1]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.send %1 message 1 to [@b, @c] via cuda_ipc order 2
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via cuda_ipc order 3 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<gpu>
    %2 = cgc.copy %1 on @b reason "the hint asks for this device" : !cgc.tensor<gpu>
    cgc.send %2 message 2 to [@c] via cuda_ipc order 5
  }
  cgc.program @c {
    %0 = cgc.recv message 1 from @a via cuda_ipc order 4 : !cgc.tensor<default>
    %1 = cgc.recv message 2 from @b via cuda_ipc order 6 : !cgc.tensor<gpu>
    %2 = cgc.call @c::@join(%0, %1) : !cgc.object
    cgc.send %2 message 3 to [@driver] via shm order 7
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: cuda_ipc: the receiver sees the sender's memory, and nothing is copied
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @tensors_on_one_gpu level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @b actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.actor @c actor class "Stage" on "n0" devices ["gpu:0"]
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 cuda_ipc from @a to [@b, @c] slots 10 slot_bytes 4096
  cgc.channel @c2 cuda_ipc from @b to [@c] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @c to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c3 messages [3] order 8 : !cgc.object
    cgc.output [%1]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.tensor<default>
    cgc.write @c1(%1) messages [1] order 2
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.tensor<default>
    %1 = cgc.call @b::@fwd(%0) : !cgc.tensor<gpu>
    %2 = cgc.copy %1 on @b reason "the hint asks for this device" : !cgc.tensor<gpu>
    cgc.write @c2(%2) messages [2] order 5
  }
  cgc.program @c {
    %0 = cgc.read @c1 messages [1] order 4 : !cgc.tensor<default>
    %1 = cgc.read @c2 messages [2] order 6 : !cgc.tensor<gpu>
    %2 = cgc.call @c::@join(%0, %1) : !cgc.object
    cgc.write @c3(%2) messages [3] order 7
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of tensors_on_one_gpu (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c3
//   3  output r1
//
// program @a of tensors_on_one_gpu (v2)  registers=2  device=gpu
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c1 r1    drop r1
//
// program @b of tensors_on_one_gpu (v2)  registers=3  device=gpu
//   0  r0 = read c1
//   1  r1 = call fwd(r0)    drop r0
//   2  r2 = copy r1 to gpu    drop r1
//   3  write c2 r2    drop r2
//
// program @c of tensors_on_one_gpu (v2)  registers=3  device=gpu
//   0  r0 = read c1
//   1  r1 = read c2
//   2  r2 = call join(r0, r1)    drop r0, r1
//   3  write c3 r2    drop r2
