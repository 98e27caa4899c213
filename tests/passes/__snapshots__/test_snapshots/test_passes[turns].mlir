// ----- import
cgc.graph @turns level = graph, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.call @a::@first(%0) : !cgc.object
    %2 = cgc.call @b::@answer(%1) : !cgc.object
    %3 = cgc.call @a::@second(%2) : !cgc.object
    %4 = cgc.call @b::@last(%3) : !cgc.object
    cgc.output %4
  }
}

// ----- after verify-graph: unchanged

// ----- after anchor-calls: unchanged

// ----- after infer-types: unchanged

// ----- after place-devices
cgc.graph @turns level = placed, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm reason "same node" : !cgc.object
    %2 = cgc.call @a::@first(%1) : !cgc.object
    %3 = cgc.transfer %2 from @a to [@b] via shm reason "same node" : !cgc.object
    %4 = cgc.call @b::@answer(%3) : !cgc.object
    %5 = cgc.transfer %4 from @b to [@a] via shm reason "same node" : !cgc.object
    %6 = cgc.call @a::@second(%5) : !cgc.object
    %7 = cgc.transfer %6 from @a to [@b] via shm reason "same node" : !cgc.object
    %8 = cgc.call @b::@last(%7) : !cgc.object
    %9 = cgc.transfer %8 from @b to [@driver] via shm reason "same node" : !cgc.object
    cgc.output %9
  }
}

// ----- after pair-comm
cgc.graph @turns level = scheduled, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.send %0 message 0 to [@a] via shm order 0
    %1 = cgc.recv message 4 from @b via shm order 9 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.recv message 0 from @driver via shm order 1 : !cgc.object
    %1 = cgc.call @a::@first(%0) : !cgc.object
    cgc.send %1 message 1 to [@b] via shm order 2
    %2 = cgc.recv message 2 from @b via shm order 5 : !cgc.object
    %3 = cgc.call @a::@second(%2) : !cgc.object
    cgc.send %3 message 3 to [@b] via shm order 6
  }
  cgc.program @b {
    %0 = cgc.recv message 1 from @a via shm order 3 : !cgc.object
    %1 = cgc.call @b::@answer(%0) : !cgc.object
    cgc.send %1 message 2 to [@a] via shm order 4
    %2 = cgc.recv message 3 from @a via shm order 7 : !cgc.object
    %3 = cgc.call @b::@last(%2) : !cgc.object
    cgc.send %3 message 4 to [@driver] via shm order 8
  }
}

// ----- after overlap-comm: unchanged
// WhyNoOverlap: shm: the actor itself copies messages through host memory

// ----- after group-comm: unchanged

// ----- after allocate-channels
cgc.graph @turns level = allocated, max_inflight = 10 {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.actor @b actor class "Stage" on "n0"
  cgc.channel @c0 shm from @driver to [@a] slots 10 slot_bytes 4096
  cgc.channel @c1 shm from @a to [@b] slots 10 slot_bytes 4096 shared 2
  cgc.channel @c2 shm from @b to [@a] slots 10 slot_bytes 4096
  cgc.channel @c3 shm from @b to [@driver] slots 10 slot_bytes 4096
  cgc.program @driver {
    %0 = cgc.input : !cgc.object
    cgc.write @c0(%0) messages [0] order 0
    %1 = cgc.read @c3 messages [4] order 9 : !cgc.object
    cgc.output %1
  }
  cgc.program @a {
    %0 = cgc.read @c0 messages [0] order 1 : !cgc.object
    %1 = cgc.call @a::@first(%0) : !cgc.object
    cgc.write @c1(%1) messages [1] order 2
    %2 = cgc.read @c2 messages [2] order 5 : !cgc.object
    %3 = cgc.call @a::@second(%2) : !cgc.object
    cgc.write @c1(%3) messages [3] order 6
  }
  cgc.program @b {
    %0 = cgc.read @c1 messages [1] order 3 : !cgc.object
    %1 = cgc.call @b::@answer(%0) : !cgc.object
    cgc.write @c2(%1) messages [2] order 4
    %2 = cgc.read @c1 messages [3] order 7 : !cgc.object
    %3 = cgc.call @b::@last(%2) : !cgc.object
    cgc.write @c3(%3) messages [4] order 8
  }
}

// ----- after verify-schedule: unchanged

// ----- after emit-programs: unchanged

// program @driver of turns (v2)  registers=2
//   0  r0 = input
//   1  write c0 r0    drop r0
//   2  r1 = read c3
//   3  output r1
//
// program @a of turns (v2)  registers=4
//   0  r0 = read c0
//   1  r1 = call first(r0)    drop r0
//   2  write c1 r1    drop r1
//   3  r2 = read c2
//   4  r3 = call second(r2)    drop r2
//   5  write c1 r3    drop r3
//
// program @b of turns (v2)  registers=4
//   0  r0 = read c1
//   1  r1 = call answer(r0)    drop r0
//   2  write c2 r1    drop r1
//   3  r2 = read c1
//   4  r3 = call last(r2)    drop r2
//   5  write c3 r3    drop r3
