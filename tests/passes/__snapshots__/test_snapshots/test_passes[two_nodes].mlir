// ----- import
cgc.graph @two_nodes level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n1"
  cgc.actor @c actor class "Stage" on "n1"
  cgc.actor @d actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    %2 = cgc.call @b::@fwd(%1) : !cgc.object
    %3 = cgc.call @c::@fwd(%1) : !cgc.object
    %4 = cgc.call @d::@fwd(%1) : !cgc.object
    cgc.output [%2, %3, %4]
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @two_nodes level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n1"
  cgc.actor @c actor class "Stage" on "n1"
  cgc.actor @d actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@fwd(%1) : !cgc.object
    %3, %4 = cgc.transfer %2 from @a to [@b, @c] via tcp reason "from node n0 to n1" : !cgc.object, !cgc.object
    %5 = cgc.transfer %2 from @a to [@d] via shm reason "same node" : !cgc.object
    %6 = cgc.call @b::@fwd(%3) : !cgc.object
    %7 = cgc.transfer %6 from @b to [@driver] via tcp reason "from node n1 to n0" : !cgc.object
    %8 = cgc.call @c::@fwd(%4) : !cgc.object
    %9 = cgc.transfer %8 from @c to [@driver] via tcp reason "from node n1 to n0" : !cgc.object
    %10 = cgc.call @d::@fwd(%5) : !cgc.object
    %11 = cgc.transfer %10 from @d to [@driver] via shm reason "same node" : !cgc.object
    cgc.output [%7, %9, %11]
  }
}

// ----- after pair-comm
cgc.graph @two_nodes level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n1"
  cgc.actor @c actor class "Stage" on "n1"
  cgc.actor @d actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 5 from @d via shm order 8 : !cgc.object
    %2 = cgc.recv message 3 from @b via tcp order 11 : !cgc.object
    %3 = cgc.recv message 4 from @c via tcp order 12 : !cgc.object
    cgc.output [%2, %3, %1]
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    cgc.send %1 message 1 to [@b, @c] via tcp order 2
    cgc.send %1 message 2 to [@d] via shm order 3
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via tcp order 5 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.send %1 message 3 to [@driver] via tcp order 9
  }
  cgc.program @c {
    %0 = cgc.recv message 1 from @a via tcp order 6 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.send %1 message 4 to [@driver] via tcp order 10
  }
  cgc.program @d {
    %0 = cgc.recv message 2 from @a via shm order 4 : !cgc.object
    %1 = cgc.call @d::@fwd(%0) : !cgc.object
    cgc.send %1 message 5 to [@driver] via shm order 7
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory
// WhyNoOverlap: tcp: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @two_nodes level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n1"
  cgc.actor @c actor class "Stage" on "n1"
  cgc.actor @d actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 tcp from @a to [@b, @c] slots 10 slot_bytes 4096
  cgc.channel @c2 shm from @a to [@d] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @d to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c4 tcp from @b to [@driver] slots 10 slot_bytes 4096
  cgc.channel @c5 tcp from @c to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c3 messages [5] order 10 : !cgc.object
    %2 = cgc.read @c4 messages [3] order 11 : !cgc.object
    %3 = cgc.read @c5 messages [4] order 12 : !cgc.object
    cgc.output [%2, %3, %1]
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@fwd(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 2
    cgc.write @c2(%1) messages [2] order 3
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 5 : !cgc.object
    %1 = cgc.call @b::@fwd(%0) : !cgc.object
    cgc.write @c4(%1) messages [3] order 8
  }
  cgc.program @c {
    %0 = cgc.read @c1 messages [1] order 6 : !cgc.object
    %1 = cgc.call @c::@fwd(%0) : !cgc.object
    cgc.write @c5(%1) messages [4] order 9
  }
  cgc.program @d {
    %0 = cgc.read @c2 messages [2] order 4 : !cgc.object
    %1 = cgc.call @d::@fwd(%0) : !cgc.object
    cgc.write @c3(%1) messages [5] order 7
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of two_nodes (v2)  registers=4
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c3
//   3  r2 = read c4
//   4  r3 = read c5
//   5  output r2, r3, r1
//
// program @a of two_nodes (v2)  registers=2
//   0  r0 = read c0
//   1  r1 = call fwd(r0)    drop r0
//   2  write c1 r1
//   3  write c2 r1    drop r1
//
// program @b of two_nodes (v2)  registers=2
//   0  r0 = read c1
//   1  r1 = call fwd(r0)    drop r0
//   2  write c4 r1    drop r1
//
// program @c of two_nodes (v2)  registers=2
//   0  r0 = read c1
//   1  r1 = call fwd(r0)    drop r0
//   2  write c5 r1    drop r1
//
// program @d of two_nodes (v2)  registers=2
//   0  r0 = read c2
//   1  r1 = call fwd(r0)    drop r0
//   2  write c3 r1    drop r1
