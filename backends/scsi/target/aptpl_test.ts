import { assert, assertEquals, assertThrows } from "@std/assert";
import { TemporaryDirectory } from "../../../tests/support/temporary_directory.ts";
import { ReservationFile } from "./aptpl.ts";
import { unhex } from "./names.ts";
import { TargetBench } from "./testing/bench.ts";
import { be } from "./testing/cases.ts";
import {
  A,
  access,
  B,
  cdb,
  CONFLICT,
  list,
  NONE,
  out,
  readIn,
  WE,
} from "./testing/persistent.ts";

Deno.test("APTPL keeps registrations and the reservation, in one step", () => {
  using directory = TemporaryDirectory.make("aptpl");
  const path = directory.file("disk.img.pr");
  const unit = { store: new ReservationFile(path) };
  {
    using bench = new TargetBench({ unit });
    assertEquals(out(bench.first, 6, NONE, A), 0);
    assertEquals(out(bench.first, 1, A, NONE, WE), 0);
    // Without APTPL nothing is kept.
    assertThrows(() => Deno.statSync(path), Deno.errors.NotFound);
    assertEquals(out(bench.first, 6, NONE, A, 0, 1), 0);
    const second = bench.join("second");
    assertEquals(out(second, 6, NONE, B, 0, 1), 0);
    assertEquals(readIn(second, 2)[3], 0x91);
  }
  const names = () =>
    Array.from(Deno.readDirSync(directory.path), ({ name }) => name);
  assertEquals(names(), ["disk.img.pr"]);
  {
    using bench = new TargetBench({ unit });
    const second = bench.join("second");
    assertEquals(readIn(second, 0).slice(4), [
      ...be(16, 4),
      ...unhex(A),
      ...unhex(B),
    ]);
    assertEquals(access(second), [0, 0, CONFLICT]);
    assertEquals(access(bench.first), [0, 0, 0]);
    // The last one to leave takes the file along.
    assertEquals(out(bench.first, 3, A, NONE), 0);
  }
  assertEquals(names(), []);
});

Deno.test("APTPL that cannot be kept changes nothing", () => {
  using directory = TemporaryDirectory.make("aptpl");
  const path = directory.file("missing/disk.img.pr");
  using bench = new TargetBench({ unit: { store: new ReservationFile(path) } });
  const answer = bench.run(cdb(6), { out: list(NONE, A, 1) });
  assertEquals(answer.sense, { key: 5, asc: 0x5504 });
  assertEquals(readIn(bench.first, 0), [...be(0, 4), ...be(0, 4)]);
});

Deno.test("a file that holds no reservations is refused", () => {
  using directory = TemporaryDirectory.make("aptpl");
  const path = directory.file("disk.img.pr");
  for (
    const text of [
      "",
      "{}",
      '{"format":"vhostd persistent reservations","version":2}',
      '{"format":"vhostd persistent reservations","version":1,"generation":1,' +
      '"registrations":[{"initiator":"a","key":"xyz"}],"reservation":null,' +
      '"persistent":true}',
    ]
  ) {
    Deno.writeTextFileSync(path, text);
    const error = assertThrows(() => new ReservationFile(path).load(), Error);
    assert(error.message.startsWith(`Cannot use "${path}"`));
  }
});
