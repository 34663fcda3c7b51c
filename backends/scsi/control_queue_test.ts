import { assert, assertEquals } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { lunField, ScsiBench, SLOTS, taskManagement } from "./testing/bench.ts";
import { Response, TaskManagement } from "./protocol.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const read = (lba: number) => [0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0];
const write = (lba: number) => [0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0];
const LUN = lunField(0, 0);
/** How long the patience of a device may last, in ms. */
const MOST_PATIENCE = 20_000;

/** Hands in a task management request without waiting. */
function manage(bench: ScsiBench, subtype: number, tag = 0): void {
  bench.offer(0, [
    { readable: taskManagement(subtype, LUN, tag) },
    { writable: 1 },
  ]);
}

/** The responses to what was answered on the control queue. */
function controlled(bench: ScsiBench): number[] {
  return bench.drivers[0].reap().map(({ data }) => data[0]);
}

/** Stops the rings, and starts those of the control queue and of events. */
function restart(bench: ScsiBench): void {
  const { device, queues } = bench;
  for (const queue of queues) device.quiesce(queue);
  device.start(queues[0]);
  device.start(queues[1]);
}

ringTest(
  "the answer is published after all that ended before it",
  () => {
    using bench = new ScsiBench();
    const storage = bench.clearAttentions().fake();
    bench.send(read(1), { room: 512, tag: 7 });
    // One that is dormant ends while the function is served.
    bench.send(read(2), { room: 512, tag: 8, attribute: 1 });
    for (const tag of [7, 8]) manage(bench, TaskManagement.ABORT_TASK, tag);
    bench.turn();
    assertEquals([controlled(bench), bench.reap().size], [[], 1]);
    bench.turn();
    assertEquals([controlled(bench), bench.reap().size], [[0], 0]);
    storage.complete(0);
    bench.turn();
    assertEquals([controlled(bench), bench.reap().size], [[], 1]);
    bench.turn();
    assertEquals([controlled(bench), bench.reap().size], [[0], 0]);
  },
);

ringTest("a function waits until the rings of requests run", () => {
  for (
    const subtype of [
      TaskManagement.ABORT_TASK,
      TaskManagement.ABORT_TASK_SET,
      TaskManagement.CLEAR_TASK_SET,
      TaskManagement.I_T_NEXUS_RESET,
      TaskManagement.LOGICAL_UNIT_RESET,
    ]
  ) {
    using bench = new ScsiBench();
    const { device, queues } = bench;
    const storage = bench.clearAttentions().fake();
    restart(bench);
    bench.send(write(5), { out: new Uint8Array(512), tag: 7 });
    manage(bench, subtype, 7);
    assertEquals(device.serve(queues[0], 8), false);
    assertEquals([queues[0].inFlight, bench.resumed], [0, []]);
    device.start(queues[2]);
    assertEquals(bench.resumed, [0]);
    assertEquals(device.serve(queues[0], 8), true);
    assertEquals([queues[0].inFlight, storage.pending.length], [1, 1]);
    storage.complete(0);
    bench.turn();
    const [{ response }] = bench.reap().values();
    assert(response === Response.ABORTED || response === Response.RESET);
    bench.turn();
    assertEquals(controlled(bench), [Response.FUNCTION_COMPLETE]);
  }
});

Deno.test("a function does not wait for ever for rings that nobody starts", async () => {
  using directory = TemporaryDirectory.make("scsi");
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(2 ** 20));
  using bench = new ScsiBench({
    directory,
    scsi: { queues: 2, path },
  });
  const { device, queues } = bench;
  bench.clearAttentions();
  restart(bench);
  device.start(queues[2]);
  manage(bench, TaskManagement.LOGICAL_UNIT_RESET);
  assertEquals(device.serve(queues[0], 8), false);
  const start = performance.now();
  while (bench.resumed.length === 0) {
    assert(performance.now() - start < MOST_PATIENCE, "nobody is patient");
    await new Promise((resolve) => setTimeout(resolve, 10));
    for (const ready of bench.watched.values()) ready();
  }
  assertEquals(bench.resumed, [0]);
  assertEquals(device.serve(queues[0], 8), true);
  assertEquals(queues[0].inFlight, 1);
  // Then it is known: the next one waits for nothing.
  manage(bench, TaskManagement.LOGICAL_UNIT_RESET);
  assertEquals(device.serve(queues[0], 8), true);
  // Until rings begin or end again.
  device.quiesce(queues[2]);
  manage(bench, TaskManagement.LOGICAL_UNIT_RESET);
  assertEquals(device.serve(queues[0], 8), false);
});

ringTest(
  "a function waits for commands that no chain object is free for",
  () => {
    using bench = new ScsiBench();
    const storage = bench.clearAttentions().fake();
    for (let tag = 0; tag < SLOTS; tag++) {
      bench.send(read(1), { room: 512, tag });
    }
    const last = bench.send(write(3), { out: new Uint8Array(512), tag: 99 });
    manage(bench, TaskManagement.ABORT_TASK, 99);
    for (let i = 0; i < 3; i++) bench.turn();
    assertEquals([controlled(bench), storage.pending.length], [[], SLOTS]);
    assertEquals([...new Set(bench.resumed)], [2]);
    bench.resumed.length = 0;
    // Nothing ended: it is not looked at again.
    bench.turn();
    storage.complete(0);
    bench.device.poll();
    assertEquals(bench.resumed.includes(0), true);
    bench.turn();
    // Another one may be behind the one that was taken now.
    assertEquals(
      [bench.queues[0].inFlight, storage.pending.length],
      [0, SLOTS],
    );
    storage.complete(0);
    bench.turn();
    assertEquals(bench.queues[0].inFlight, 1);
    while (storage.pending.length > 0) storage.complete(0);
    bench.turn();
    const answers = bench.reap();
    assertEquals(answers.size, SLOTS + 1);
    assertEquals(answers.get(last)!.response, Response.ABORTED);
    bench.turn();
    assertEquals(controlled(bench), [Response.FUNCTION_COMPLETE]);
  },
);

ringTest("a function does not wait for commands that came after it", () => {
  const ringSize = 8 * SLOTS;
  using bench = new ScsiBench({ ringSize });
  const storage = bench.clearAttentions().fake();
  const send = () => bench.send(read(1), { room: 512, tag: 1 });
  for (let i = 0; i < 2 * SLOTS; i++) send();
  manage(bench, TaskManagement.ABORT_TASK, 99);
  let rounds = 0;
  for (; controlled(bench).length === 0; rounds++) {
    assert(rounds < 2 * ringSize, "it waits for ever");
    bench.turn();
    // The ring is never empty.
    assertEquals(storage.pending.length, SLOTS);
    storage.complete(0);
    bench.turn();
    for (const _ of bench.reap()) send();
  }
  // All that came before it were taken.
  assert(rounds >= ringSize - SLOTS, `it waited for ${rounds} commands`);
});

ringTest(
  "in order, the answer waits for what keeps others from being seen",
  () => {
    using bench = new ScsiBench({ inOrder: true });
    const storage = bench.clearAttentions().fake();
    const first = bench.send(read(1), { room: 512, tag: 1 });
    const second = bench.send(read(2), { room: 512, tag: 2 });
    bench.turn();
    manage(bench, TaskManagement.ABORT_TASK, 2);
    bench.turn();
    storage.complete(1);
    for (let i = 0; i < 4; i++) bench.turn();
    assertEquals([controlled(bench), bench.reap().size], [[], 0]);
    // Nothing is to be done: the loop may sleep.
    assertEquals(bench.device.poll(), 0);
    // What comes later has no part in it.
    for (const tag of [3, 4]) bench.send(read(tag), { room: 512, tag });
    bench.turn();
    storage.complete(2);
    storage.complete(0);
    bench.turn();
    assertEquals(controlled(bench), []);
    assertEquals([...bench.reap().keys()], [first, second]);
    bench.turn();
    assertEquals(controlled(bench), [Response.FUNCTION_COMPLETE]);
    assertEquals(storage.pending.length, 1);
  },
);
