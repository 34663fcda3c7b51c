import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { CommandSpec } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { OUTCOME_OVERRUN, OUTCOME_STATUS } from "./task.ts";
import { CDROM, TargetBench } from "./testing/bench.ts";

const SIZES = [0, 4, 8, 24, 52, 512, 1024, 4096] as const;
/** Most bits of most commands are 0. */
const byte = fc.oneof(
  { weight: 4, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.nat(9) },
  { weight: 1, arbitrary: fc.nat(255) },
);

/** A CDB of a command: any bytes, or any that it does not refuse. */
function cdbOf(command: CommandSpec): fc.Arbitrary<number[]> {
  const { opcode, length, serviceAction, forbidden } = command;
  return fc.tuple(
    fc.array(byte, { minLength: length, maxLength: length }),
    fc.integer({ min: 0, max: 9 }),
  ).map(([bytes, strange]) =>
    bytes.map((value, i) => {
      if (i === 0) return opcode;
      const action = i === 1 && serviceAction !== undefined
        ? value & 0xe0 | serviceAction
        : value;
      return strange === 0 ? action : action & ~forbidden[i];
    })
  );
}

const commands = fc.array(
  fc.tuple(
    fc.constantFrom(...COMMANDS).chain(cdbOf),
    fc.constantFrom(...SIZES),
    fc.boolean(),
    fc.boolean(),
    fc.infiniteStream(byte),
  ),
  { minLength: 1, maxLength: 40 },
);

for (const [name, unit] of [["disk", {}], ["CD-ROM", CDROM]] as const) {
  Deno.test(`a ${name} answers whatever is sent, once, with sense data if it refuses`, () => {
    fc.assert(
      fc.property(commands, (sent) => {
        using bench = new TargetBench({ unit });
        const others = bench.join("second");
        for (const [cdb, size, writing, first, bytes] of sent) {
          const initiator = first ? bench.first : others;
          const buffers = writing
            ? { out: Uint8Array.from(bytes.take(size)) }
            : { room: size };
          const { status, outcome, sense, transferred } = initiator.run(
            cdb,
            buffers,
          );
          assert(outcome === OUTCOME_STATUS || outcome === OUTCOME_OVERRUN);
          if (outcome === OUTCOME_STATUS) assertEquals(status === 2, !!sense);
          assert(transferred <= size);
          assertEquals(bench.unit.tasks.count, 0);
        }
        const tasks = [...bench.first.tasks, ...others.tasks];
        const ends = tasks.reduce((sum, task) => sum + task.ends, 0);
        assertEquals(ends, sent.length);
      }),
      { numRuns: 100 },
    );
  });
}
