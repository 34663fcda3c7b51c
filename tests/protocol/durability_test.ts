/**
 * "Stable when it completes" (virtio 1.4, section 5.2.6.2), seen from outside:
 * by the system calls of the server, and by what the kernel still holds of the
 * image when the driver sees the completion.
 */

import { assert, assertEquals } from "@std/assert";
import { dirtyPages } from "../../sys/testing/page_cache.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { Guest, SECTOR, T_FLUSH, T_OUT } from "./disk.ts";
import { findTracer, parseTrace, traced } from "./strace.ts";
import { VhostdProcess } from "./vhostd_process.ts";

const T_WRITE_ZEROES = 13;
const FLUSH = 1n << 9n, CONFIG_WCE = 1n << 11n;
/** Offset of `writeback` in the configuration space. */
const WRITEBACK = 32;
/** How long (ms) each fdatasync takes at least. */
const DELAY = 150;

/** How a driver comes to writes that are durable, or not. */
interface Mode {
  readonly name: string;
  /** Options of the disk. */
  readonly keys?: string;
  /** Features that the driver does without. */
  readonly without: bigint;
  /** The driver writes 0 to `writeback`. */
  readonly writethrough?: boolean;
  /** Writes are durable when they complete. */
  readonly durable: boolean;
}

const MODES: readonly Mode[] = [
  { name: "writeback", without: 0n, durable: false },
  { name: "flush-only", without: CONFIG_WCE, durable: false },
  { name: "neither", without: FLUSH | CONFIG_WCE, durable: true },
  { name: "wce-0", without: 0n, writethrough: true, durable: true },
  { name: "wce-off", without: 0n, keys: "wce=off", durable: true },
  {
    name: "wce-off-flush-only",
    without: CONFIG_WCE,
    keys: "wce=off",
    durable: true,
  },
];

async function connect(server: VhostdProcess, mode: Mode): Promise<Guest> {
  const guest = await Guest.run(server.socket(mode.name), {
    features: ~mode.without,
  });
  if (mode.writethrough) {
    await guest.frontEnd.setConfig(WRITEBACK, new Uint8Array([0]));
  }
  return guest;
}

/** The range of a write zeroes request: 8 sectors from 16 on. */
function zeroes(): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set([16]);
  bytes.set([8], 8);
  return bytes;
}

const data = new Uint8Array(8 * SECTOR).fill(0x5a);
const tracer = await findTracer();
const tracing = skipUnless(
  typeof tracer !== "string",
  typeof tracer === "string" ? tracer : "",
);

tracing.test("fdatasync returns before a durable request is answered, and is not called for others", async (t) => {
  using directory = TemporaryDirectory.make("trace");
  const output = directory.file("trace");
  const server = await VhostdProcess.start({
    disks: MODES.map(({ name, keys = "" }) => ({
      name,
      keys: ["engine=sync", ...keys ? [keys] : []].join(","),
    })),
    wrapper: traced(
      tracer as readonly string[],
      output,
      ["pwrite64", "pwritev", "fallocate", "fdatasync", "fsync", "write"],
      // A device that answered before the call returned would be seen.
      [`fdatasync:delay_exit=${DELAY * 1000}`],
    ),
  });
  const images = new Map<string, string>();
  try {
    for (const mode of MODES) {
      images.set(mode.name, server.image(mode.name));
      await t.step(`${mode.name}: the driver waits`, async () => {
        using guest = await connect(server, mode);
        const [driver] = guest.drivers;
        const request = async (
          type: number,
          payload: Uint8Array | number,
          durable: boolean,
        ): Promise<void> => {
          const start = performance.now(), used = driver.usedIndex;
          driver.enableInterrupt();
          guest.submit(type, 0, payload);
          await waitUntil(() => driver.usedIndex !== used, {
            what: "the used index to move",
            interval: 1,
          });
          // A lower bound: the system call cannot have returned before.
          if (durable) assert(performance.now() - start >= DELAY);
          const [{ data: [status] }] = await guest.complete(1);
          assertEquals(status, 0);
        };
        await request(T_OUT, data, mode.durable);
        await request(T_WRITE_ZEROES, zeroes(), mode.durable);
        await request(T_FLUSH, 0, (guest.frontEnd.features & FLUSH) !== 0n);
        assertEquals(driver.usedIndex, 3);
      });
    }
  } finally {
    await server[Symbol.asyncDispose]();
  }
  const calls = parseTrace(Deno.readTextFileSync(output));
  for (const { name, durable } of MODES) {
    await t.step(`${name}: the order of the system calls`, () => {
      const image = `<${images.get(name)}>`;
      const thread = calls.find(({ name, args }) =>
        name === "pwrite64" && args.includes(image)
      )?.thread;
      assert(thread !== undefined, "the image was not written");
      // The first look of the engine is whether holes can be punched.
      const seen = calls.filter((call) => call.thread === thread)
        .filter(({ args }) =>
          args.includes(image) || args.includes("<anon_inode:[eventfd]>")
        ).map(({ name }) => name);
      const from = seen.indexOf("pwrite64");
      const sync = durable ? ["fdatasync"] : [];
      const expected = [
        ...["pwrite64", ...sync, "write"],
        ...["fallocate", ...sync, "write"],
        ...["fdatasync", "write"],
      ];
      assertEquals(seen.slice(from, from + expected.length), expected);
      assert(
        calls.every(({ name, result }) =>
          name !== "fdatasync" || result.startsWith("0")
        ),
      );
    });
  }
});

/** Why dirty pages cannot be counted in the temporary directory, or `null`. */
function obstacle(): string | null {
  using directory = TemporaryDirectory.make("dirty");
  const path = directory.file("probe");
  Deno.writeFileSync(path, new Uint8Array(65536));
  const dirty = dirtyPages(path);
  if (dirty === null) return "counting dirty pages needs Linux 6.5";
  return dirty > 0 ? null : "temporary files are on no medium";
}

const reason = obstacle();
const counting = skipUnless(reason === null, reason ?? "");

for (const engine of ["sync", "auto"]) {
  counting.test(`what must be durable has left the page cache when it completes (engine=${engine})`, async (t) => {
    await using server = await VhostdProcess.start({
      disks: MODES.map(({ name, keys }) => ({
        name,
        keys: [`engine=${engine}`].concat(keys ?? []).join(","),
      })),
    });
    for (const mode of MODES) {
      await t.step(mode.name, async () => {
        const image = server.image(mode.name);
        using guest = await connect(server, mode);
        let left = 0;
        for (let i = 0; i < 20; i++) {
          const { status } = await guest.request(T_OUT, 8 * i, data);
          const dirty = dirtyPages(image)!;
          assertEquals(status, 0);
          if (mode.durable) assertEquals(dirty, 0);
          left += dirty;
        }
        // Whatever writes back by itself has not seen all of them.
        if (!mode.durable) assert(left > 0, "every write was made durable");
        assertEquals((await guest.request(T_FLUSH, 0)).status, 0);
        assertEquals(dirtyPages(image), 0);
      });
    }
  });
}
