// ----- import
cgc.graph @edge_within_an_actor level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    %2 = cgc.call @a::@two(%1) : !cgc.object
    %3 = cgc.call @b::@join(%2, %1) : !cgc.object
    cgc.output %3
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @edge_within_an_actor level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@one(%1) : !cgc.object
    %3 = cgc.transfer %2 from @a to [@b] via shm reason "same node" : !cgc.object
    %4 = cgc.call @a::@two(%2) : !cgc.object
    %5 = cgc.transfer %4 from @a to [@b] via shm reason "same node" : !cgc.object
    %6 = cgc.call @b::@join(%5, %3) : !cgc.object
    %7 = cgc.transfer %6 from @b to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %7
  }
}

// ----- after pair-comm
cgc.graph @edge_within_an_actor level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 3 from @b via shm order 7 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    cgc.send %1 message 1 to [@b] via shm order 2
    %2 = cgc.call @a::@two(%1) : !cgc.object
    cgc.send %2 message 2 to [@b] via shm order 4
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via shm order 3 : !cgc.object
    %1 = cgc.recv message 2 from @a via shm order 5 : !cgc.object
    %2 = cgc.call @b::@join(%1, %0) : !cgc.object
    cgc.send %2 message 3 to [@driver] via shm order 6
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @edge_within_an_actor level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @a to [@b] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c3 messages [3] order 7 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@one(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.call @a::@two(%1) : !cgc.object
    cgc.write @c2(%2) messages [2] order 4
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.object
    %1 = cgc.read @c2 messages [2] order 5 : !cgc.object
    %2 = cgc.call @b::@join(%1, %0) : !cgc.object
    cgc.write @c3(%2) messages [3] order 6
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of edge_within_an_actor (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c3
//   3  output r1
//
// program @a of edge_within_an_actor (v2)  registers=3
//   0  r0 = read c0
//   1  r1 = call one(r0)    drop r0
//   2  write c1 r1
//   3  r2 = call two(r1)    drop r1
//   4  write c2 r2    drop r2
//
// program @b of edge_within_an_actor (v2)  registers=3
//   0  r0 = read c1
//   1  r1 = read c2
//   2  r2 = call join(r1, r0)    drop r0, r1
//   3  write c3 r2    drop r2
