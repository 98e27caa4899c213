// ----- import
cgc.graph @several_outputs_of_one_actor level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    %2 = cgc.call @a::@two(%0) : !cgc.object
    %3 = cgc.call @b::@fwd(%2) : !cgc.object
    %4 = cgc.call @a::@three(%0) : !cgc.object
    cgc.output [%1, %2, %3, %4]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @several_outputs_of_one_actor level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@one(%1) : !cgc.object
    %3 = cgc.transfer %2 from @a to [@driver] via shm reason "same node" : !cgc.object
    %4 = cgc.call @a::@two(%1) : !cgc.object
    %5, %6 = cgc.transfer %4 from @a to [@b, @driver] via shm reason "same node" : !cgc.object, !cgc.object
    %7 = cgc.call @b::@fwd(%5) : !cgc.object
    %8 = cgc.transfer %7 from @b to [@driver] via shm reason "same node" : !cgc.object
    %9 = cgc.call @a::@three(%1) : !cgc.object
    %10 = cgc.transfer %9 from @a to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%3, %6, %8, %10]
  }
}

// ----- after pair-comm
cgc.graph @several_outputs_of_one_actor level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 1 from @a via shm order 3 : !cgc.object
    %2 = cgc.recv message 2 from @a via shm order 5 : !cgc.object
    %3 = cgc.recv message 4 from @a via shm order 9 : !cgc.object
    %4 = cgc.recv message 3 from @b via shm order 10 : !cgc.object
    cgc.output [%1, %2, %4, %3]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    cgc.send %1 message 1 to [@driver] via shm order 2
    %2 = cgc.call @a::@two(%0) : !cgc.object
    cgc.send %2 message 2 to [@b, @driver] via shm order 4
    %3 = cgc.call @a::@three(%0) : !cgc.object
    cgc.send %3 message 4 to [@driver] via shm order 7
  }
  cgc.program @b {
    %0 = cgc.recv message 2 from @a via shm order 6 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.send %1 message 3 to [@driver] via shm order 8
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @several_outputs_of_one_actor level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @a to [@b, @driver] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1, %2 = cgc.read @c1 messages [1, 4] order 6 : !cgc.object, !cgc.object
    %3 = cgc.read @c2 messages [2] order 7 : !cgc.object
    %4 = cgc.read @c3 messages [3] order 8 : !cgc.object
    cgc.output [%1, %3, %4, %2]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    %2 = cgc.call @a::@two(%0) : !cgc.object
    cgc.write @c2(%2) messages [2] order 2
    %3 = cgc.call @a::@three(%0) : !cgc.object
    cgc.write @c1(%1, %3) messages [1, 4] order 4
  }
  cgc.program @b {
    %0 = cgc.read @c2 messages [2] order 3 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.write @c3(%1) messages [3] order 5
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of several_outputs_of_one_actor (v2)  registers=5
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1, r2 = read c1
//   3  r3 = read c2
//   4  r4 = read c3
//   5  output r1, r3, r4, r2
//
// program @a of several_outputs_of_one_actor (v2)  registers=4
//   0  r0 = read c0
//   1  r1 = call one(r0)
//   2  r2 = call two(r0)
//   3  write c2 r2    drop r2
//   4  r3 = call three(r0)    drop r0
//   5  write c1 r1, r3    drop r1, r3
//
// program @b of several_outputs_of_one_actor (v2)  registers=2
//   0  r0 = read c2
//   1  r1 = call fwd(r0)    drop r0
//   2  write c3 r1    drop r1
