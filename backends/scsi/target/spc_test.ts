import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { COMMANDS } from "./commands.ts";
import { type CommandSpec, fieldMask, UNIT_DISK } from "./command.ts";
import { CDROM, TargetBench } from "./testing/bench.ts";
import {
  bad,
  be,
  data,
  field,
  good,
  parameter,
  text,
} from "./testing/cases.ts";

const ROOM = { room: 4096 };
const inquiry = (page: number, allocation = 255) => [
  ...[0x12, page < 0 ? 0 : 1, Math.max(page, 0)],
  ...[...be(allocation, 2), 0],
];

good("INQUIRY", {}, (bench) => {
  const bytes = data(bench.run(inquiry(-1), ROOM));
  assertEquals(bytes.length, 74);
  assertEquals([...bytes.slice(0, 8)], [0, 0, 7, 0x12, 69, 0x10, 0, 2]);
  assertEquals(text(bytes.slice(8, 36)), "VHOSTD  DISK            1.0 ");
  assertEquals(data(bench.run(inquiry(-1, 36), ROOM)), bytes.slice(0, 36));
  const page = (code: number) => {
    const body = data(bench.run(inquiry(code, 4096), ROOM));
    assertEquals([body[0], body[1], body[2] << 8 | body[3]], [
      0,
      code,
      body.length - 4,
    ]);
    return body.slice(4);
  };
  const codes = [0, 0x80, 0x83, 0x86, 0x87, 0xb0, 0xb1, 0xb2];
  assertEquals([...page(0)], codes);
  assertEquals(text(page(0x80)), "SN-0001");
  const ids = page(0x83);
  assertEquals([...ids.slice(0, 4)], [1, 3, 0, 8]);
  assertEquals(ids.slice(4, 12), bench.unit.options.wwn);
  assertEquals([...ids.slice(12, 16)], [2, 1, 0, 31]);
  assertEquals(text(ids.slice(16, 47)), "VHOSTD  DISK            SN-0001");
  assertEquals([...ids.slice(47)], [
    ...[1, 0x14, 0, 4, 0, 0, 0, 1],
    ...[1, 0x15, 0, 4, 0, 0, 0, 1],
  ]);
  assertEquals([page(0x86).length, page(0x86)[1], page(0x86)[2]], [60, 7, 1]);
  assertEquals([...page(0x87)], [0x3f, 0xff, 0, 0]);
  const limits = page(0xb0);
  assertEquals(limits.length, 60);
  assertEquals([limits[0], limits[1]], [1, 255]);
  assertEquals([...limits.slice(4, 8)], be(2 ** 17, 4));
  assertEquals([...limits.slice(16, 24)], [...be(2 ** 31, 4), ...be(256, 4)]);
  assertEquals([...limits.slice(24, 28)], be(8, 4));
  assertEquals([...limits.slice(32, 40)], be(2 ** 22, 8));
  assertEquals([...page(0xb1).slice(0, 2)], [0, 1]);
  assertEquals([...page(0xb2)], [0, 0xe4, 2, 0]);
});
bad("INQUIRY", {}, [
  ["page without EVPD", [0x12, 0, 0x80, 0, 255, 0], field(2)],
  ["unknown page", inquiry(0xb3), field(2)],
  ["CMDDT", [0x12, 2, 0, 0, 255, 0], field(1, 1)],
]);

good("TEST UNIT READY", {}, (bench) => {
  data(bench.run([0, 0, 0, 0, 0, 0]));
});
bad("TEST UNIT READY", {}, [["NACA", [0, 0, 0, 0, 0, 4], field(5, 2)]]);

good("REQUEST SENSE", {}, (bench) => {
  const fixed = data(bench.run([3, 0, 0, 0, 252, 0], ROOM));
  assertEquals([fixed.length, fixed[0], fixed[2], fixed[12]], [18, 0x70, 0, 0]);
  bench.first.nexus.raise(0x2a09);
  const descriptor = data(bench.run([3, 1, 0, 0, 252, 0], ROOM));
  assertEquals([...descriptor], [0x72, 6, 0x2a, 9, 0, 0, 0, 0]);
  // It was taken.
  data(bench.run([0, 0, 0, 0, 0, 0]));
  data(bench.run([0x1b, 0, 0, 0, 0, 0]));
  assertEquals([...data(bench.run([3, 1, 0, 0, 8, 0], ROOM))].slice(0, 4), [
    ...[0x72, 2, 4, 2],
  ]);
});
bad("REQUEST SENSE", {}, [["NACA", [3, 0, 0, 0, 18, 4], field(5, 2)]]);

const reportLuns = (select: number, allocation: number) => [
  ...[0xa0, 0, select, 0, 0, 0],
  ...[...be(allocation, 4), 0, 0],
];
good("REPORT LUNS", {}, (bench) => {
  const { first, unit } = bench;
  first.bus.add(0, 3, unit);
  first.bus.add(0, 300, unit);
  const luns = data(bench.run(reportLuns(0, 4096), ROOM));
  assertEquals([...luns], [
    ...be(24, 4),
    ...be(0, 4),
    ...[0, 0, 0, 0, 0, 0, 0, 0],
    ...[0, 3, 0, 0, 0, 0, 0, 0],
    ...[0x41, 0x2c, 0, 0, 0, 0, 0, 0],
  ]);
  // It cleared the unit attention condition that the new ones made.
  data(bench.run([0, 0, 0, 0, 0, 0]));
  const known = data(bench.run(reportLuns(1, 4096), ROOM));
  assertEquals([...known.slice(8)], [0xc1, 1, 0, 0, 0, 0, 0, 0]);
  assertEquals(data(bench.run(reportLuns(2, 4096), ROOM)).length, 40);
  assertEquals(data(bench.run(reportLuns(0, 16), ROOM)).length, 16);
  const well = first.run(reportLuns(0, 4096), ROOM, first.bus.wellKnown);
  assertEquals(data(well), luns);
});
bad("REPORT LUNS", {}, [
  ["allocation length", reportLuns(0, 15), field(6)],
  ["SELECT REPORT", reportLuns(3, 16), field(2)],
]);

Deno.test("a number without a logical unit answers as SPC wants it", () => {
  using bench = new TargetBench();
  const { first } = bench;
  const absent = first.bus.target(0)!.absent;
  const run = (cdb: number[], lun = 5) =>
    first.run(cdb, { room: 4096, lun }, absent);
  assertEquals(data(run(inquiry(-1)))[0], 0x7f);
  assertEquals(run(inquiry(0)).sense, field(2));
  const unsupported = { key: 5, asc: 0x2500 };
  assertEquals(run([0, 0, 0, 0, 0, 0]).sense, unsupported);
  assertEquals(run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).sense, unsupported);
  assertEquals(run(reportLuns(0, 16)).sense, unsupported);
  // LUN 0 tells of the others.
  assertEquals(data(run(reportLuns(0, 16), 0)).length, 16);
  const sense = data(run([3, 1, 0, 0, 8, 0]));
  assertEquals([...sense.slice(0, 4)], [0x72, 5, 0x25, 0]);
});

Deno.test("the well-known logical unit has its few commands alone", () => {
  using bench = new TargetBench();
  const { first } = bench;
  const run = (cdb: number[]) => first.run(cdb, ROOM, first.bus.wellKnown);
  assertEquals(data(run(inquiry(-1)))[0], 0x1e);
  assertEquals([...data(run(inquiry(0))).slice(4)], [0]);
  assertEquals(run([0x25]).sense, { key: 5, asc: 0x2000 });
});

good("SEND DIAGNOSTIC", {}, (bench) => {
  data(bench.run([0x1d, 4, 0, 0, 0, 0]));
  data(bench.run([0x1d, 0x10, 0, 0, 4, 0], { out: new Uint8Array(4) }));
});
bad("SEND DIAGNOSTIC", {}, [
  ["SELF-TEST CODE", [0x1d, 0x20, 0, 0, 0, 0], field(1, 7)],
  ["self-test with a list", [0x1d, 4, 0, 0, 4, 0], field(3)],
  ["PF", [0x1d, 0, 0, 0, 4, 0], field(1, 4)],
  ["page", [0x1d, 0x10, 0, 0, 4, 0], parameter(0), {
    out: Uint8Array.of(9, 0, 0, 0),
  }],
  ["length", [0x1d, 0x10, 0, 0, 3, 0], { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(3),
  }],
]);
good("RECEIVE DIAGNOSTIC RESULTS", {}, (bench) => {
  const bytes = data(bench.run([0x1c, 1, 0, 0, 255, 0], ROOM));
  assertEquals([...bytes], [0, 0, 0, 1, 0]);
});
bad("RECEIVE DIAGNOSTIC RESULTS", {}, [
  ["page", [0x1c, 1, 5, 0, 255, 0], field(2)],
]);

const CACHING = [0x08, 0x12, 4, ...new Array(17).fill(0)];
for (const length of [6, 10]) {
  const sense = (page: number, subpage = 0, dbd = 8) =>
    length === 6
      ? [0x1a, dbd, page, subpage, 255, 0]
      : [0x5a, dbd, page, subpage, 0, 0, 0, ...be(4096, 2), 0];
  const head = length === 6 ? 4 : 8;
  const select = (size: number, flags = 0x10) =>
    length === 6
      ? [0x15, flags, 0, 0, size, 0]
      : [0x55, flags, 0, 0, 0, 0, 0, ...be(size, 2), 0];
  const list = (...pages: number[]) =>
    Uint8Array.from([...new Array(head).fill(0), ...pages]);

  good(`MODE SENSE (${length})`, {}, (bench) => {
    const one = data(bench.run(sense(0x08), ROOM));
    assertEquals([...one.slice(head)], CACHING);
    const size = length === 6 ? one[0] + 1 : (one[0] << 8 | one[1]) + 2;
    assertEquals(size, one.length);
    assertEquals(one[length === 6 ? 2 : 3], 0x10);
    // With the block descriptor.
    const two = data(bench.run(sense(0x08, 0, 0), ROOM));
    assertEquals([...two.slice(head, head + 8)], [
      ...be(2048, 4),
      ...be(512, 4),
    ]);
    assertEquals(two[length === 6 ? 3 : 7], 8);
    const changeable = data(bench.run(sense(0x48), ROOM)).slice(head);
    assertEquals([...changeable], CACHING);
    assertEquals(
      data(bench.run(sense(0x88), ROOM)).slice(head),
      one.slice(head),
    );
    const all = data(bench.run(sense(0x3f), ROOM)).slice(head);
    assertEquals(all.length, 12 + 20 + 12 + 12);
    const subpages = data(bench.run(sense(0x3f, 0xff), ROOM)).slice(head);
    assertEquals(subpages.length, all.length + 32);
    const extension = data(bench.run(sense(0x0a, 1), ROOM)).slice(head);
    assertEquals([...extension.slice(0, 4)], [0x4a, 1, 0, 28]);
  });
  bad(`MODE SENSE (${length})`, {}, [
    ["saved values", sense(0xc8), { key: 5, asc: 0x3900 }],
    ["page", sense(0x11), field(2, 5)],
    ["subpage", sense(0x08, 7), field(3)],
  ]);

  good(`MODE SELECT (${length})`, {}, (bench) => {
    const other = bench.join("second");
    const off = [...CACHING];
    off[2] = 0;
    const out = list(...off);
    data(bench.run(select(out.length), { out }));
    assertEquals(bench.unit.mode.writeCache, false);
    assertEquals(other.run([0, 0, 0, 0, 0, 0]).sense, { key: 6, asc: 0x2a01 });
    // No change is nothing to tell.
    data(bench.run(select(out.length), { out }));
    data(other.run([0, 0, 0, 0, 0, 0]));
    // Sense data in descriptor format; software write protection.
    const control = [0x0a, 10, 4, 0x10, 8, 0, 0, 0, 0xff, 0xff, 0, 0];
    const both = list(...CACHING, ...control);
    data(bench.run(select(both.length), { out: both }));
    assertEquals(bench.unit.mode.writeCache, true);
    assertEquals(bench.unit.descriptorSense, true);
    const write = bench.run([0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], {
      out: new Uint8Array(512),
    });
    assertEquals(write.sense, { key: 7, asc: 0x2700 });
    assertEquals(
      data(bench.run(sense(0x08), ROOM))[length === 6 ? 2 : 3],
      0x90,
    );
    const descriptor = new Uint8Array(head + 8);
    descriptor[length === 6 ? 3 : 7] = 8;
    descriptor[head + 6] = 2;
    data(bench.run(select(head + 8), { out: descriptor }));
  });
  const changed = [...CACHING];
  changed[12] = 1;
  const descriptor = new Uint8Array(head + 8);
  descriptor[length === 6 ? 3 : 7] = 8;
  descriptor[head + 6] = 16;
  const lengthError = { key: 5, asc: 0x1a00 };
  bad(`MODE SELECT (${length})`, {}, [
    ["PF", select(24, 0), field(1, 4)],
    ["SP", select(24, 0x11), field(1, 0)],
    ["cut off", select(head - 1), lengthError, { out: list() }],
    ["cut page", select(head + 5), lengthError, { out: list(...CACHING) }],
    ["page", select(head + 4), parameter(head, 5), {
      out: list(0x11, 2, 0, 0),
    }],
    ["page length", select(head + 4), parameter(head + 1), {
      out: list(0x08, 2, 0, 0),
    }],
    ["unchangeable", select(head + 20), parameter(head + 12, 0), {
      out: list(...changed),
    }],
    ["block length", select(head + 8), parameter(head + 5), {
      out: descriptor,
    }],
    ["descriptor length", select(head), parameter(length === 6 ? 3 : 6), {
      out: descriptor.slice(0, head).fill(
        3,
        length === 6 ? 3 : 7,
        length === 6 ? 4 : 8,
      ),
    }],
  ]);
}

const logSense = (page: number, pointer = 0, subpage = 0, flags = 0) => [
  ...[0x4d, flags, page, subpage, 0, ...be(pointer, 2), ...be(4096, 2), 0],
];
good("LOG SENSE", {}, (bench) => {
  const page = (
    code: number,
    subpage = 0,
    pointer = 0,
  ) => [...data(bench.run(logSense(0x40 | code, pointer, subpage), ROOM))];
  assertEquals(page(0), [0, 0, 0, 4, 0, 0x0c, 0x0d, 0x0e]);
  assertEquals(page(0, 0xff).slice(0, 6), [0x40, 0xff, 0, 8, 0, 0]);
  assertEquals(page(0x0d), [
    ...[0x0d, 0, 0, 12, 0, 0, 3, 2, 0, 255],
    ...[0, 1, 3, 2, 0, 255],
  ]);
  assertEquals(page(0x0d, 0, 1).length, 10);
  assertEquals(page(0x0e).slice(4, 12), [0, 4, 3, 4, 0, 0, 0, 1]);
  const used = page(0x0c);
  assertEquals(used.slice(0, 8), [0x0c, 0, 0, 12, 0, 2, 3, 8]);
  // 2048 blocks are one unit of 2^11.
  assertEquals(used.slice(8, 13), [0, 0, 0, 1, 1]);
});
bad("LOG SENSE", {}, [
  ["SP", logSense(0x40, 0, 0, 1), field(1, 0)],
  ["PPC", logSense(0x40, 0, 0, 2), field(1, 1)],
  ["PC", logSense(0x0d), field(2, 7)],
  ["page", logSense(0x42), field(2, 5)],
  ["subpage", logSense(0x4d, 0, 5), field(3)],
  ["pointer", logSense(0x4d, 2), field(5)],
]);

const maintenance = (action: number, rest: number[]) => [
  ...[0xa3, action, ...rest, ...new Array(4 - rest.length).fill(0)],
  ...[...be(4096, 4), 0, 0],
];
good("REPORT SUPPORTED OPERATION CODES", {}, (bench) => {
  const all = data(bench.run(maintenance(0x0c, []), ROOM));
  const disk = COMMANDS.filter((command) => command.units & UNIT_DISK);
  assertEquals(all.length, 4 + 8 * disk.length);
  disk.forEach((command, i) => {
    assertEquals([...all.slice(4 + 8 * i, 12 + 8 * i)], [
      ...[command.opcode, 0, ...be(command.serviceAction ?? 0, 2), 0],
      ...[command.serviceAction === undefined ? 0 : 1, 0, command.length],
    ]);
  });
  const timed = data(bench.run(maintenance(0x0c, [0x80]), ROOM));
  assertEquals(timed.length, 4 + 20 * disk.length);
  const one = data(bench.run(maintenance(0x0c, [1, 0x28]), ROOM));
  assertEquals([...one], [
    ...[0, 3, 0, 10],
    ...[0x28, 0xf8, 255, 255, 255, 255, 0x1f, 255, 255, 4],
  ]);
  const action = data(bench.run(maintenance(0x0c, [2, 0x9e, 0, 0x10]), ROOM));
  assertEquals([...action.slice(0, 6)], [0, 3, 0, 16, 0x9e, 0x10]);
  const either = data(bench.run(maintenance(0x0c, [3, 0x9e, 0, 0x12]), ROOM));
  assertEquals(either[1], 3);
  const none = data(bench.run(maintenance(0x0c, [1, 0x29]), ROOM));
  assertEquals([...none], [0, 1, 0, 0]);
});
bad("REPORT SUPPORTED OPERATION CODES", {}, [
  ["service actions left out", maintenance(0x0c, [1, 0x9e]), field(2, 2)],
  ["no service actions", maintenance(0x0c, [2, 0x28]), field(2, 2)],
  ["options", maintenance(0x0c, [4, 0x28]), field(2, 2)],
]);
good("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", {}, (bench) => {
  const short = data(bench.run(maintenance(0x0d, []), ROOM));
  assertEquals([...short], [0xfc, 3, 0, 0]);
  assertEquals(data(bench.run(maintenance(0x0d, [0x80]), ROOM)).length, 16);
});
bad("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", {}, [
  ["service action", maintenance(0x1f, []), field(1, 4)],
]);
good("REPORT TARGET PORT GROUPS", {}, (bench) => {
  const bytes = data(bench.run(maintenance(0x0a, []), ROOM));
  assertEquals([...bytes], [
    ...be(12, 4),
    ...[0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
  ]);
  assertEquals(data(bench.run(maintenance(0x2a, []), ROOM)).length, 20);
});
bad("REPORT TARGET PORT GROUPS", {}, [
  ["format", maintenance(0x4a, []), field(1, 7)],
]);

Deno.test("every command refuses NACA, and fields that must be 0", () => {
  for (const command of COMMANDS) {
    const disk = (command.units & UNIT_DISK) !== 0;
    using bench = new TargetBench({ unit: disk ? {} : CDROM });
    const base = new Array<number>(command.length).fill(0);
    base[0] = command.opcode;
    base[1] = command.serviceAction ?? 0;
    const naca = [...base];
    naca[command.length - 1] = 4;
    const control = field(command.length - 1, 2);
    assertEquals(bench.run(naca, ROOM).sense, control, command.name);
    for (const [, byte, bit, bits, zero] of command.fields) {
      if (!zero) continue;
      const wrong = [...base];
      wrong[byte] |= 1 << (bit - bits + 1);
      const { sense } = bench.run(wrong, ROOM);
      assertEquals(sense, field(byte, bit), `${command.name} byte ${byte}`);
    }
  }
});

/** A bit of a CDB that no field covers. */
interface SpareBit {
  readonly byte: number;
  readonly bit: number;
}

/** The bits of a command that its fields do not cover, CONTROL left out. */
function spareBits(command: CommandSpec): SpareBit[] {
  const { fields, ignored = [], length, serviceAction } = command;
  const spare: SpareBit[] = [];
  for (let byte = 1; byte < length - 1; byte++) {
    for (let bit = 0; bit < 8; bit++) {
      const covered = [...fields, ...ignored].some(([, at, top, bits]) =>
        bits > 8
          ? byte >= at && byte < at + bits / 8
          : byte === at && bit <= top && bit > top - bits
      );
      const action = byte === 1 && bit < 5 && serviceAction !== undefined;
      if (!covered && !action) spare.push({ byte, bit });
    }
  }
  return spare;
}

Deno.test("every command refuses reserved bits, and reads over old ones", () => {
  let reserved = 0;
  for (const command of COMMANDS) {
    const disk = (command.units & UNIT_DISK) !== 0;
    using bench = new TargetBench({ unit: disk ? {} : CDROM });
    const run = (byte: number, bit: number, value = 1 << bit) => {
      const cdb = new Array<number>(command.length).fill(0);
      cdb[0] = command.opcode;
      cdb[1] = command.serviceAction ?? 0;
      cdb[byte] |= value;
      return bench.run(cdb, ROOM).sense;
    };
    for (const { byte, bit } of spareBits(command)) {
      const what = `${command.name}: byte ${byte}, bit ${bit}`;
      const sense = run(byte, bit);
      // Where SCSI-2 had the logical unit number.
      if (byte === 1 && bit >= 5) assertNotEquals(sense, field(1, bit), what);
      else assertEquals(sense, field(byte, bit), what);
      reserved++;
    }
    const last = command.length - 1;
    assertEquals(run(last, 5), field(last, 5), command.name);
    assertEquals(run(last, 0), field(last, 0), command.name);
    for (const [name, byte, bit, bits] of command.ignored ?? []) {
      const mask = bits > 8 ? 0xff : fieldMask(bit, bits);
      const sense = run(byte, bit, mask);
      assertNotEquals(sense?.field?.byte, byte, `${command.name}: ${name}`);
    }
  }
  assert(reserved > 1000);
});

Deno.test("an unknown operation code is refused, and nothing else happens", () => {
  const known = new Set(COMMANDS.map(({ opcode }) => opcode));
  using bench = new TargetBench();
  for (let opcode = 0; opcode < 256; opcode++) {
    if (known.has(opcode)) continue;
    const { sense } = bench.run([opcode], ROOM);
    assertEquals(sense, { key: 5, asc: 0x2000 });
  }
});

Deno.test("unit attention conditions come first, one at a time", () => {
  using bench = new TargetBench();
  const { nexus } = bench.first;
  nexus.raise(0x2900);
  nexus.raise(0x2a09);
  nexus.raise(0x2900);
  data(bench.run(inquiry(-1), ROOM));
  assertEquals(bench.run([0xff]).sense, { key: 6, asc: 0x2900 });
  const second = bench.run([0, 0, 0, 0, 0, 0]);
  assertEquals(second.sense, { key: 6, asc: 0x2a09 });
  data(bench.run([0, 0, 0, 0, 0, 0]));
});

Deno.test("a disk without a medium says so", () => {
  using bench = new TargetBench({ empty: true });
  const absent = { key: 2, asc: 0x3a00 };
  assertEquals(bench.run([0, 0, 0, 0, 0, 0]).sense, absent);
  assertEquals(bench.run([0x25]).sense, absent);
  data(bench.run(inquiry(-1), ROOM));
  assert(data(bench.run([3, 0, 0, 0, 18, 0], ROOM))[12] === 0x3a);
});

Deno.test("answers longer than the buffer are overruns", () => {
  using bench = new TargetBench();
  assertEquals(bench.run(inquiry(-1), { room: 73 }).outcome, 3);
  assertEquals(bench.run(inquiry(-1, 36), { room: 36 }).outcome, 0);
  const short = { out: new Uint8Array(3) };
  assertEquals(bench.run([0x15, 0x10, 0, 0, 24, 0], short).outcome, 3);
});
