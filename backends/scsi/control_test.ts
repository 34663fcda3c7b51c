import { assertEquals } from "@std/assert";
import { lunField, ScsiBench, taskManagement } from "./testing/bench.ts";
import { Response, TaskManagement } from "./protocol.ts";
import { imageTest } from "../storage/testing/engines.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";

const read = (lba: number) => [0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0];
const TUR = [0, 0, 0, 0, 0, 0];
const LUN = lunField(0, 0);

/** Hands in a task management request without waiting; its token. */
function manage(
  bench: ScsiBench,
  subtype: number,
  field: readonly number[] = LUN,
  tag = 0,
): number {
  return bench.offer(0, [
    { readable: taskManagement(subtype, field, tag) },
    { writable: 1 },
  ]);
}

/** The response to a task management request that is answered at once. */
function answer(
  bench: ScsiBench,
  subtype: number,
  field: readonly number[] = LUN,
  tag = 0,
): number {
  return bench.control(taskManagement(subtype, field, tag))[0];
}

/** The responses to what was answered on the control queue, a turn later. */
function controlled(bench: ScsiBench): number[] {
  bench.turn();
  return bench.drivers[0].reap().map(({ data }) => data[0]);
}

ringTest(
  "ABORT TASK: the command is answered once, before the function",
  () => {
    using bench = new ScsiBench();
    const storage = bench.clearAttentions().fake();
    const first = bench.send(read(1), { room: 512, tag: 11 });
    const second = bench.send(read(2), { room: 512, tag: 12 });
    bench.turn();
    manage(bench, TaskManagement.ABORT_TASK, LUN, 11);
    bench.turn();
    // Its memory is in the hands of the storage: it cannot end yet.
    assertEquals([controlled(bench), bench.reap().size], [[], 0]);
    storage.complete(0);
    // Nobody served the queue: the loop was asked to.
    assertEquals(bench.resumed, [2]);
    bench.turn();
    const answers = bench.reap();
    assertEquals(bench.drivers[0].reap(), []);
    assertEquals([...answers.keys()], [first]);
    const aborted = answers.get(first)!;
    assertEquals([aborted.response, aborted.residual], [Response.ABORTED, 512]);
    assertEquals(aborted.length, 108);
    assertEquals(controlled(bench), [Response.FUNCTION_COMPLETE]);
    storage.complete(0);
    bench.turn();
    assertEquals(bench.reap().get(second)!.response, 0);
  },
);

ringTest("commands that wait in the ring are taken before the function", () => {
  using bench = new ScsiBench();
  bench.clearAttentions();
  assertEquals(bench.run(TUR).status, 0);
  const storage = bench.fake();
  bench.resumed.length = 0;
  for (let tag = 0; tag < 20; tag++) bench.send(read(1), { room: 512, tag });
  manage(bench, TaskManagement.ABORT_TASK, LUN, 19);
  bench.turn();
  assertEquals(bench.resumed, [2]);
  assertEquals(storage.pending.length, 20);
  while (storage.pending.length > 0) storage.complete(0);
  bench.turn();
  const answers = [...bench.reap().values()];
  const aborted = answers.filter(({ response }) => response === 2);
  assertEquals([answers.length, aborted.length], [20, 1]);
  assertEquals(controlled(bench), [0]);
});

imageTest("ABORT TASK of what is not there is complete", () => {
  using bench = new ScsiBench();
  assertEquals(answer(bench, TaskManagement.ABORT_TASK, LUN, 5), 0);
  bench.clearAttentions();
  assertEquals(bench.run(TUR, { tag: 5 }).status, 0);
  assertEquals(answer(bench, TaskManagement.ABORT_TASK, LUN, 5), 0);
});

ringTest("ABORT TASK SET and CLEAR TASK SET end all commands", () => {
  for (
    const subtype of [
      TaskManagement.ABORT_TASK_SET,
      TaskManagement.CLEAR_TASK_SET,
    ]
  ) {
    using bench = new ScsiBench();
    const storage = bench.clearAttentions().fake();
    for (let i = 0; i < 3; i++) bench.send(read(i), { room: 512, tag: i });
    // One that waits ends at once.
    bench.send(read(9), { room: 512, tag: 9, attribute: 1 });
    bench.turn();
    manage(bench, subtype);
    bench.turn();
    assertEquals(bench.reap().size, 1);
    assertEquals(controlled(bench), []);
    while (storage.pending.length > 0) storage.complete(0);
    bench.turn();
    const answers = [...bench.reap().values()];
    assertEquals(answers.map(({ response }) => response), [2, 2, 2]);
    assertEquals(controlled(bench), [0]);
    assertEquals(bench.run(TUR).status, 0);
  }
});

ringTest("LOGICAL UNIT RESET ends all, and the driver is told", () => {
  using bench = new ScsiBench();
  const storage = bench.clearAttentions().fake();
  bench.send(read(1), { room: 512 });
  bench.turn();
  manage(bench, TaskManagement.LOGICAL_UNIT_RESET);
  bench.turn();
  assertEquals(controlled(bench), []);
  storage.complete(0);
  bench.turn();
  assertEquals([...bench.reap().values()][0].response, Response.RESET);
  assertEquals(controlled(bench), [0]);
  assertEquals(bench.run(TUR).sense, { key: 6, asc: 0x2903 });
  assertEquals(bench.run(TUR).status, 0);
});

ringTest("I_T NEXUS RESET ends the commands of a whole target", () => {
  using images = new ScsiBench();
  using bench = new ScsiBench({
    scsi: {
      luns: [0, 1].map((lun) => ({ lun, path: images.image(`${lun}.img`) })),
    },
  });
  const storages = [0, 1].map((lun) => bench.clearAttentions().fake(0, lun));
  for (const lun of [0, 1]) bench.send(read(1), { lun, room: 512 });
  bench.turn();
  manage(bench, TaskManagement.I_T_NEXUS_RESET, lunField(0, 77));
  bench.turn();
  storages[0].complete(0);
  bench.turn();
  assertEquals(controlled(bench), []);
  storages[1].complete(0);
  bench.turn();
  assertEquals(controlled(bench), [0]);
  const answers = [...bench.reap().values()];
  assertEquals(answers.map(({ response }) => response), [4, 4]);
  for (const lun of [0, 1]) {
    assertEquals(bench.run(TUR, { lun }).sense, { key: 6, asc: 0x2907 });
  }
});

ringTest("QUERY TASK and QUERY TASK SET tell what is there", () => {
  using bench = new ScsiBench();
  const storage = bench.clearAttentions().fake();
  assertEquals(answer(bench, TaskManagement.QUERY_TASK_SET), 0);
  bench.send(read(1), { room: 512, tag: 3 });
  bench.turn();
  assertEquals(answer(bench, TaskManagement.QUERY_TASK, LUN, 3), 10);
  assertEquals(answer(bench, TaskManagement.QUERY_TASK, LUN, 4), 0);
  assertEquals(answer(bench, TaskManagement.QUERY_TASK_SET), 10);
  storage.complete(0);
  assertEquals(answer(bench, TaskManagement.QUERY_TASK, LUN, 3), 0);
});

imageTest("CLEAR ACA is complete, other functions are rejected", () => {
  using bench = new ScsiBench();
  assertEquals(answer(bench, TaskManagement.CLEAR_ACA), 0);
  for (const subtype of [8, 99, 0xffff_ffff]) {
    assertEquals(answer(bench, subtype), Response.FUNCTION_REJECTED);
  }
});

imageTest("task management names what is wrong with its LUN field", () => {
  using bench = new ScsiBench();
  for (let subtype = 0; subtype < 8; subtype++) {
    assertEquals(answer(bench, subtype, lunField(5, 0)), Response.BAD_TARGET);
    if (subtype === TaskManagement.I_T_NEXUS_RESET) continue;
    const there = answer(bench, subtype, lunField(0, 5));
    assertEquals(there, Response.INCORRECT_LUN);
  }
});

imageTest("malformed control requests are given back empty", () => {
  using bench = new ScsiBench();
  const cases: [Uint8Array, number][] = [
    [new Uint8Array(23), 1],
    [Uint8Array.of(9, 0, 0, 0), 8],
    [Uint8Array.of(0), 1],
    [Uint8Array.of(1, 0, 0, 0), 5],
    [new Uint8Array(16).fill(1, 0, 1), 4],
  ];
  for (const [request, room] of cases) {
    assertEquals(bench.control(request, room).length, 0);
  }
  const noAnswer = bench.offer(0, [{ readable: taskManagement(0, LUN) }]);
  assertEquals(bench.complete(0, noAnswer).length, 0);
  assertEquals(answer(bench, TaskManagement.CLEAR_ACA), 0);
});

/** An asynchronous notification request. */
function asynchronous(
  type: number,
  field: readonly number[],
  events: number,
): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  bytes.set(field, 4);
  view.setUint32(12, events, true);
  return bytes;
}

imageTest(
  "asynchronous notification is for the medium of CD-ROMs",
  async () => {
    using images = new ScsiBench();
    using bench = new ScsiBench({
      scsi: {
        luns: [
          { path: images.image("disk.img") },
          { path: images.image("cd.iso"), lun: 1, type: "cdrom" },
        ],
      },
    });
    const cd = lunField(0, 1);
    const ask = (
      type: number,
      field: readonly number[],
    ) => [...bench.control(asynchronous(type, field, 0x7e), 5)];
    assertEquals(ask(1, LUN), [0, 0, 0, 0, 0]);
    assertEquals(ask(1, cd), [0x10, 0, 0, 0, 0]);
    assertEquals(ask(1, lunField(0, 9)), [0, 0, 0, 0, Response.INCORRECT_LUN]);
    assertEquals(ask(1, lunField(9, 0)), [0, 0, 0, 0, Response.BAD_TARGET]);
    bench.provideEvents(2);
    const change = () =>
      bench.device.command("change-medium", {
        lun: 1,
        path: images.image("cd2.iso"),
      });
    await change();
    assertEquals(bench.events(), []);
    assertEquals(ask(2, cd), [0x10, 0, 0, 0, 0]);
    await change();
    assertEquals(bench.events(), [{ event: 2, lun: cd, reason: 0x10 }]);
    // Subscribing to nothing ends it.
    const end = bench.control(asynchronous(2, cd, 0), 5);
    assertEquals([...end], [0, 0, 0, 0, 0]);
    await change();
    assertEquals(bench.events(), []);
  },
);
