import { assertEquals } from "@std/assert";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import { ReservationFile } from "./aptpl.ts";
import { unhex } from "./names.ts";
import { TargetBench } from "./testing/bench.ts";
import { bad, be, data, field, good, parameter } from "./testing/cases.ts";
import { COMMANDS, mustNotReplay } from "./commands.ts";
import {
  A,
  access,
  attention,
  B,
  cdb,
  CONFLICT,
  EA,
  EAAR,
  EARO,
  list,
  NONE,
  out,
  READ,
  readIn,
  register,
  WE,
  WEAR,
  WERO,
} from "./testing/persistent.ts";

good("PERSISTENT RESERVE OUT: REGISTER", {}, (bench) => {
  const { first } = bench;
  assertEquals(out(first, 0, NONE, A), 0);
  assertEquals(readIn(first, 0), [...be(1, 4), ...be(8, 4), ...unhex(A)]);
  // Another key needs the old one.
  assertEquals(out(first, 0, NONE, B), CONFLICT);
  assertEquals(out(first, 0, A, B), 0);
  assertEquals(readIn(first, 0).slice(8), [...unhex(B)]);
  assertEquals(out(first, 0, B, NONE), 0);
  assertEquals(readIn(first, 0), [...be(3, 4), ...be(0, 4)]);
  // No key and none before: nothing happens.
  assertEquals(out(first, 0, NONE, NONE), 0);
  assertEquals(readIn(first, 0).slice(0, 4), be(3, 4));
});
bad("PERSISTENT RESERVE OUT: REGISTER", {}, [
  ["length", cdb(0, 0, 23), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(23),
  }],
  ["a list of nothing", cdb(0, 0, 28), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(28),
  }],
  ["SPEC_I_PT alone", cdb(0), { key: 5, asc: 0x1a00 }, {
    out: list(NONE, A, 8),
  }],
  ["SPEC_I_PT without a key", cdb(0), parameter(20, 3), {
    out: list(NONE, NONE, 8),
  }],
  ["APTPL, and nowhere to keep it", cdb(0), parameter(20, 0), {
    out: list(NONE, A, 1),
  }],
]);

good(
  "PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY",
  {},
  (bench) => {
    const { first } = bench;
    assertEquals(out(first, 6, B, A), 0);
    assertEquals(out(first, 6, NONE, B), 0);
    assertEquals(readIn(first, 0).slice(8), [...unhex(B)]);
    assertEquals(out(first, 6, NONE, NONE), 0);
    assertEquals(readIn(first, 0).length, 8);
  },
);
bad("PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY", {}, [
  ["SPEC_I_PT", cdb(6), parameter(20, 3), { out: list(NONE, A, 8) }],
]);

good("PERSISTENT RESERVE OUT: RESERVE", {}, (bench) => {
  // What others may do under each type: not registered, then registered.
  const expected: [number, number[], number[]][] = [
    [WE, [0, 0, CONFLICT], [0, 0, CONFLICT]],
    [EA, [0, CONFLICT, CONFLICT], [0, CONFLICT, CONFLICT]],
    [WERO, [0, 0, CONFLICT], [0, 0, 0]],
    [EARO, [0, CONFLICT, CONFLICT], [0, 0, 0]],
    [WEAR, [0, 0, CONFLICT], [0, 0, 0]],
    [EAAR, [0, CONFLICT, CONFLICT], [0, 0, 0]],
  ];
  const { first } = bench;
  const second = bench.join("second");
  for (const [type, stranger, registrant] of expected) {
    assertEquals(out(first, 1, A, NONE, type), CONFLICT);
    register(first, A);
    assertEquals(out(first, 1, B, NONE, type), CONFLICT);
    assertEquals(out(first, 1, A, NONE, type), 0);
    assertEquals(out(first, 1, A, NONE, type), 0);
    assertEquals(out(first, 1, A, NONE, type === WE ? EA : WE), CONFLICT);
    assertEquals(access(first), [0, 0, 0]);
    assertEquals(access(second), stranger, `type ${type}`);
    register(second, B);
    assertEquals(access(second), registrant, `type ${type}`);
    const key = type >= WEAR ? NONE : A;
    assertEquals(readIn(second, 1).slice(8), [
      ...unhex(key),
      ...[0, 0, 0, 0, 0, type, 0, 0],
    ]);
    const same = out(second, 1, B, NONE, type);
    assertEquals(same, type >= WEAR ? 0 : CONFLICT);
    assertEquals(out(first, 3, A, NONE), 0);
    second.clearAttentions();
  }
});
bad("PERSISTENT RESERVE OUT: RESERVE", {}, [
  ["length", cdb(1, 1, 25), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(25),
  }],
]);
Deno.test("PERSISTENT RESERVE OUT: RESERVE refuses other types and scopes", () => {
  using bench = new TargetBench();
  register(bench.first, A);
  const run = (type: number) =>
    bench.run(cdb(1, type), { out: list(A, NONE) }).sense;
  for (const type of [0, 2, 4, 9, 15]) assertEquals(run(type), field(2, 3));
  assertEquals(run(0x11), field(2, 7));
});

good("PERSISTENT RESERVE OUT: RELEASE", {}, (bench) => {
  const { first } = bench;
  const second = bench.join("second");
  register(first, A);
  register(second, B);
  assertEquals(out(first, 2, A, NONE, WE), 0);
  assertEquals(out(first, 1, A, NONE, WERO), 0);
  // One that does not hold it releases nothing.
  assertEquals(out(second, 2, B, NONE, WERO), 0);
  assertEquals(readIn(first, 1).length, 24);
  assertEquals(out(first, 2, A, NONE, WERO), 0);
  assertEquals(readIn(first, 1).length, 8);
  assertEquals(attention(second), 0x2a04);
  assertEquals(attention(first), 0);
});
Deno.test("PERSISTENT RESERVE OUT: RELEASE of another type is refused", () => {
  using bench = new TargetBench();
  register(bench.first, A);
  assertEquals(out(bench.first, 1, A, NONE, WE), 0);
  const { sense } = bench.run(cdb(2, EA), { out: list(A, NONE) });
  assertEquals(sense, { key: 5, asc: 0x2604 });
});
bad("PERSISTENT RESERVE OUT: RELEASE", {}, [
  ["length", cdb(2, 1, 0), { key: 5, asc: 0x1a00 }],
]);

good("PERSISTENT RESERVE OUT: CLEAR", {}, (bench) => {
  const { first } = bench;
  const second = bench.join("second");
  register(first, A);
  register(second, B);
  assertEquals(out(first, 1, A, NONE, EA), 0);
  assertEquals(out(second, 3, A, NONE), CONFLICT);
  assertEquals(out(second, 3, B, NONE), 0);
  assertEquals(attention(first), 0x2a03);
  assertEquals(readIn(first, 1).length, 8);
  assertEquals(readIn(first, 0).slice(4), be(0, 4));
});
bad("PERSISTENT RESERVE OUT: CLEAR", {}, [
  ["length", cdb(3, 0, 8), { key: 5, asc: 0x1a00 }, { out: new Uint8Array(8) }],
]);

good("PERSISTENT RESERVE OUT: PREEMPT", {}, (bench) => {
  const { first } = bench;
  const second = bench.join("second");
  register(first, A);
  register(second, B);
  assertEquals(out(first, 1, A, NONE, WE), 0);
  // Takes the reservation over.
  assertEquals(out(second, 4, B, A, EA), 0);
  assertEquals(attention(first), 0x2a05);
  assertEquals(readIn(second, 0).slice(8), [...unhex(B)]);
  assertEquals(readIn(second, 1)[8 + 13], EA);
  assertEquals(first.run(READ, { room: 512 }).status, CONFLICT);
  // Removes a registration alone.
  register(first, A);
  assertEquals(out(second, 4, B, A, WE), 0);
  assertEquals(readIn(second, 1)[8 + 13], EA);
  assertEquals(attention(first), 0x2a05);
  // A key that nobody has.
  assertEquals(out(second, 4, B, A, WE), CONFLICT);
  // All registrants.
  assertEquals(out(second, 2, B, NONE, EA), 0);
  register(first, A);
  assertEquals(out(first, 1, A, NONE, WEAR), 0);
  assertEquals(out(second, 4, B, NONE, WE), 0);
  assertEquals(readIn(second, 0).slice(8), [...unhex(B)]);
  assertEquals(readIn(second, 1).slice(8, 16), [...unhex(B)]);
});
Deno.test("PERSISTENT RESERVE OUT: PREEMPT needs a key, and a type", () => {
  using bench = new TargetBench();
  register(bench.first, A);
  const run = (type: number, key: string) =>
    bench.run(cdb(4, type), { out: list(A, key) }).sense;
  assertEquals(run(WE, NONE), parameter(8));
  assertEquals(out(bench.first, 1, A, NONE, WE), 0);
  assertEquals(run(2, A), field(2, 3));
});
bad("PERSISTENT RESERVE OUT: PREEMPT", {}, [
  ["length", cdb(4, 1, 16), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(16),
  }],
]);

good("PERSISTENT RESERVE OUT: PREEMPT AND ABORT", {}, (bench) => {
  const { first } = bench;
  const second = bench.join("second");
  register(first, A);
  register(second, B);
  assertEquals(out(first, 1, A, NONE, WE), 0);
  assertEquals(out(second, 5, B, A, WE), 0);
  assertEquals(access(second), [0, 0, 0]);
  assertEquals(attention(first), 0x2a05);
});
bad("PERSISTENT RESERVE OUT: PREEMPT AND ABORT", {}, [
  ["length", cdb(5, 1, 16), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(16),
  }],
]);

/** The parameter list of REGISTER AND MOVE. */
function moveList(
  key: string,
  action: string,
  transportId: Uint8Array,
  flags = 0,
): Uint8Array {
  return Uint8Array.from([
    ...unhex(key),
    ...unhex(action),
    ...[0, flags, 0, 1, ...be(transportId.length, 4)],
    ...transportId,
  ]);
}
good("PERSISTENT RESERVE OUT: REGISTER AND MOVE", {}, (bench) => {
  const { first } = bench;
  const second = bench.join("second");
  const { transportId } = second.nexus.initiator;
  register(first, A);
  const move = (flags: number) => {
    const out = moveList(A, B, transportId, flags);
    return first.run(cdb(7, 0, out.length), { out });
  };
  assertEquals(move(0).status, CONFLICT);
  assertEquals(out(first, 1, A, NONE, WE), 0);
  assertEquals(move(2).status, 0);
  assertEquals(readIn(second, 0).slice(8), [...unhex(B)]);
  assertEquals(access(second), [0, 0, 0]);
  assertEquals(access(first), [0, 0, CONFLICT]);
});
Deno.test("PERSISTENT RESERVE OUT: REGISTER AND MOVE judges its list", () => {
  using bench = new TargetBench();
  const { first } = bench;
  register(first, A);
  assertEquals(out(first, 1, A, NONE, WE), 0);
  const run = (bytes: Uint8Array) =>
    first.run(cdb(7, 0, bytes.length), { out: bytes }).sense;
  const own = first.nexus.initiator.transportId;
  assertEquals(run(moveList(A, B, own)), parameter(24));
  assertEquals(run(moveList(A, B, new Uint8Array(24))), parameter(24));
  assertEquals(run(moveList(A, NONE, own)), parameter(8));
  const port = moveList(A, B, own);
  port[19] = 2;
  assertEquals(run(port), parameter(18));
  const short = moveList(A, B, own).slice(0, 40);
  assertEquals(run(short), { key: 5, asc: 0x1a00 });
});
bad("PERSISTENT RESERVE OUT: REGISTER AND MOVE", {}, [
  ["length", cdb(7, 0, 23), { key: 5, asc: 0x1a00 }, {
    out: new Uint8Array(23),
  }],
]);

good("PERSISTENT RESERVE IN: READ KEYS", {}, (bench) => {
  const second = bench.join("second");
  register(bench.first, A);
  register(second, B);
  assertEquals(readIn(second, 0), [
    ...be(2, 4),
    ...be(16, 4),
    ...unhex(A),
    ...unhex(B),
  ]);
});
bad("PERSISTENT RESERVE IN: READ KEYS", {}, [
  ["service action", [0x5e, 4, 0, 0, 0, 0, 0, 1, 0, 0], field(1, 4)],
]);
good("PERSISTENT RESERVE IN: READ RESERVATION", {}, (bench) => {
  assertEquals(readIn(bench.first, 1), [...be(0, 4), ...be(0, 4)]);
  register(bench.first, A);
  assertEquals(out(bench.first, 1, A, NONE, EARO), 0);
  assertEquals(readIn(bench.first, 1), [
    ...be(1, 4),
    ...be(16, 4),
    ...unhex(A),
    ...[0, 0, 0, 0, 0, EARO, 0, 0],
  ]);
});
bad("PERSISTENT RESERVE IN: READ RESERVATION", {}, [
  ["NACA", [0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 4], field(9, 2)],
]);
good("PERSISTENT RESERVE IN: REPORT CAPABILITIES", {}, (bench) => {
  // SIP_C and ATP_C.
  assertEquals(readIn(bench.first, 2), [0, 8, 0x0c, 0x90, 0xea, 1, 0, 0]);
  using directory = TemporaryDirectory.make("aptpl");
  const store = new ReservationFile(directory.file("reservations"));
  using kept = new TargetBench({ unit: { store } });
  assertEquals(out(kept.first, 0, NONE, A, 0, 1), 0);
  // PTPL_C and PTPL_A, too.
  assertEquals(readIn(kept.first, 2), [0, 8, 0x0d, 0x91, 0xea, 1, 0, 0]);
});
bad("PERSISTENT RESERVE IN: REPORT CAPABILITIES", {}, [
  ["NACA", [0x5e, 2, 0, 0, 0, 0, 0, 1, 0, 4], field(9, 2)],
]);
good("PERSISTENT RESERVE IN: READ FULL STATUS", {}, (bench) => {
  const second = bench.join("second");
  register(bench.first, A);
  register(second, B);
  assertEquals(out(second, 1, B, NONE, WE), 0);
  const bytes = readIn(second, 3);
  assertEquals(bytes.length, 8 + 2 * 48);
  assertEquals(bytes.slice(8, 16), [...unhex(A)]);
  assertEquals([bytes[20], bytes[21]], [0, 0]);
  assertEquals([bytes[56 + 12], bytes[56 + 13]], [1, WE]);
  assertEquals(bytes.slice(56 + 24), [...second.nexus.initiator.transportId]);
});
bad("PERSISTENT RESERVE IN: READ FULL STATUS", {}, [
  ["NACA", [0x5e, 3, 0, 0, 0, 0, 0, 1, 0, 4], field(9, 2)],
]);

for (const [length, reserve, release] of [[6, 0x16, 0x17], [10, 0x56, 0x57]]) {
  const command = (opcode: number) => [
    opcode,
    ...new Array(length - 1).fill(0),
  ];
  good(`RESERVE (${length})`, {}, (bench) => {
    const second = bench.join("second");
    data(bench.run(command(reserve)));
    data(bench.run(command(reserve)));
    assertEquals(access(second), [CONFLICT, CONFLICT, CONFLICT]);
    assertEquals(second.run(command(reserve)).status, CONFLICT);
    assertEquals(out(second, 6, NONE, B), CONFLICT);
    data(second.run([0x12, 0, 0, 0, 36, 0], { room: 36 }));
    assertEquals(access(bench.first), [0, 0, 0]);
  });
  bad(`RESERVE (${length})`, {}, [
    ["3RDPTY", [reserve, 0x10, 0, 0, 0, 0], field(1, 4)],
    ["EXTENT", [reserve, 1, 0, 0, 0, 0], field(1, 0)],
  ]);
  good(`RELEASE (${length})`, {}, (bench) => {
    const second = bench.join("second");
    data(bench.run(command(reserve)));
    // Somebody else's release is good, and nothing happens.
    data(second.run(command(release)));
    assertEquals(access(second), [CONFLICT, CONFLICT, CONFLICT]);
    data(bench.run(command(release)));
    assertEquals(access(second), [0, 0, 0]);
    // Where somebody is registered there is only the persistent kind.
    register(second, B);
    assertEquals(bench.run(command(reserve)).status, CONFLICT);
    assertEquals(bench.run(command(release)).status, CONFLICT);
  });
  bad(`RELEASE (${length})`, {}, [
    ["3RDPTY", [release, 0x10, 0, 0, 0, 0], field(1, 4)],
  ]);
}

Deno.test("a holder that unregisters releases, and tells the others", () => {
  using bench = new TargetBench();
  const { first } = bench;
  const second = bench.join("second");
  register(first, A);
  register(second, B);
  assertEquals(out(first, 1, A, NONE, EARO), 0);
  assertEquals(out(first, 0, A, NONE), 0);
  assertEquals(attention(second), 0x2a04);
  assertEquals(readIn(second, 1).length, 8);
  // With all registrants the last one releases.
  register(first, A);
  assertEquals(out(first, 1, A, NONE, WEAR), 0);
  assertEquals(out(first, 0, A, NONE), 0);
  assertEquals(readIn(second, 1).length, 24);
  assertEquals(out(second, 0, B, NONE), 0);
  assertEquals(readIn(second, 1).length, 8);
});

Deno.test("START STOP UNIT and PREVENT are judged by what they ask for", () => {
  using bench = new TargetBench({ unit: { removable: true } });
  const second = bench.join("second");
  register(bench.first, A);
  assertEquals(out(bench.first, 1, A, NONE, WE), 0);
  assertEquals(second.run([0x1b, 0, 0, 0, 1, 0]).status, 0);
  assertEquals(second.run([0x1b, 0, 0, 0, 0, 0]).status, CONFLICT);
  assertEquals(second.run([0x1e, 0, 0, 0, 0, 0]).status, 0);
  assertEquals(second.run([0x1e, 0, 0, 0, 1, 0]).status, CONFLICT);
});

Deno.test("commands that must not be done twice are known by their CDB", () => {
  const once = new Set(
    COMMANDS.filter(({ opcode }) => mustNotReplay(Uint8Array.of(opcode)))
      .map(({ opcode }) => opcode),
  );
  assertEquals(once, new Set([0x16, 0x17, 0x56, 0x57, 0x5f, 0x89]));
});
