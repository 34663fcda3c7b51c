/**
 * Measures what processes cost: time from the start of `serve` to the end of its
 * announcement, and memory when it has come to rest, with one process for all
 * devices and with one for each.
 *
 *     deno run -A tests/processes/measure.ts [ROUNDS]
 *
 * RSS counts a page once for each process, PSS divides it among those that share
 * it, private memory is what the process alone has: what one more process costs.
 *
 * @module
 */

import { ChildProcess } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";

const DEVICES = [1, 4, 16];
const MODES = ["off", "on"];
const LIMIT = 60_000;
const MEBIBYTE = 1024;

/** KiB of each kind. */
interface Memory {
  readonly rss: number;
  readonly pss: number;
  readonly private: number;
}

interface Measurement {
  readonly ms: number;
  readonly command: Memory;
  readonly total: Memory;
}

function memoryOf(pid: number): Memory {
  const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
  const field = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(text)![1]);
  return {
    rss: field("Rss"),
    pss: field("Pss"),
    private: field("Private_Clean") + field("Private_Dirty"),
  };
}

function sum(parts: readonly Memory[]): Memory {
  return parts.reduce((a, b) => ({
    rss: a.rss + b.rss,
    pss: a.pss + b.pss,
    private: a.private + b.private,
  }));
}

function childrenOf(pid: number): number[] {
  const text = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`);
  return text.trim().split(" ").filter((word) => word !== "").map(Number);
}

/** Waits until the memory of all processes stays what it is. */
async function atRest(pids: readonly number[]): Promise<void> {
  let last = -1;
  for (let i = 0; i < 50; i++) {
    const { rss } = sum(pids.map(memoryOf));
    if (Math.abs(rss - last) < MEBIBYTE) return;
    last = rss;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function measure(mode: string, devices: number): Promise<Measurement> {
  using directory = TemporaryDirectory.make("measure");
  const disks = Array.from({ length: devices }, (_, i) => {
    const image = directory.file(`${i}.img`);
    using file = Deno.openSync(image, { write: true, create: true });
    file.truncateSync(1 << 20);
    return `--blk=path=${image},socket=${directory.file(`${i}.sock`)}`;
  });
  const started = performance.now();
  await using child = ChildProcess.start(Deno.execPath(), {
    args: [
      ...COMMAND_ARGUMENTS,
      "serve",
      "--management=off",
      `--supervise=${mode}`,
      ...disks,
    ],
  });
  await child.expect("Stop with Ctrl-C", LIMIT, "stdout");
  const ms = performance.now() - started;
  const pids = [child.pid, ...childrenOf(child.pid)];
  await atRest(pids);
  const parts = pids.map(memoryOf);
  return { ms, command: parts[0], total: sum(parts) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function mebibytes(values: readonly number[]): string {
  return (median(values) / MEBIBYTE).toFixed(0).padStart(6);
}

if (import.meta.main) {
  const rounds = Number(Deno.args[0] ?? 5);
  const results = new Map<string, Measurement[]>();
  for (let round = 0; round < rounds; round++) {
    for (const devices of DEVICES) {
      for (const mode of MODES) {
        const key = `${mode.padEnd(9)} ${String(devices).padStart(7)}`;
        const list = results.get(key) ?? [];
        results.set(key, [...list, await measure(mode, devices)]);
      }
    }
  }
  console.log("Medians; memory in MiB, that of the command itself last\n");
  console.log(
    "supervise devices     ms    RSS    PSS  private | command's RSS, private",
  );
  for (const [key, list] of results) {
    const of = (pick: (each: Measurement) => number) => list.map(pick);
    console.log(
      key,
      median(of(({ ms }) => ms)).toFixed(0).padStart(6),
      mebibytes(of(({ total }) => total.rss)),
      mebibytes(of(({ total }) => total.pss)),
      mebibytes(of(({ total }) => total.private)).padStart(8),
      "|",
      mebibytes(of(({ command }) => command.rss)),
      mebibytes(of(({ command }) => command.private)),
    );
  }
}
