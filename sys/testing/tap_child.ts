/**
 * What the tests of TAPs do in a network namespace of their own: run by
 * `tap_test.ts` under `unshare`, writes one JSON line.
 *
 * @module
 */

import { dupFd, openFdCount } from "../fd.ts";
import { IovecTable } from "../iovec.ts";
import { Arena } from "../arena.ts";
import { SystemError } from "../errno.ts";
import { readScattered, writeScattered } from "../scatter.ts";
import { Tap, TapOffload } from "../tap.ts";
import { Epoll, EPOLLIN } from "../epoll.ts";

function kindOf(action: () => unknown): string {
  try {
    action();
    return "none";
  } catch (error) {
    return error instanceof SystemError ? error.kind : String(error);
  }
}

function ip(...args: string[]): string {
  const { success, stdout, stderr } = new Deno.Command("ip", {
    args,
    stdin: "null",
  }).outputSync();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Numbers of queues that are attached, and that are not. */
function queuesOf(name: string): string[] {
  const shown = ip("-d", "link", "show", name);
  return [...shown.matchAll(/num(?:queues|disabled) (\d+)/g)].map(([, n]) => n);
}

/** The first frame that comes, without its header. */
function receive(tap: Tap, list: IovecTable, bytes: Uint8Array): number[] {
  using epoll = new Epoll();
  epoll.add(tap.fd, EPOLLIN, 0);
  if (epoll.wait(10_000) === 0) throw new Error("no frame came");
  const n = readScattered(tap.fd, list, 0, 1);
  return [...bytes.subarray(tap.headerSize, n)];
}

async function main(): Promise<Record<string, unknown>> {
  using arena = new Arena(70000);
  using list = new IovecTable(1, 1);
  list.words[0] = arena.address;
  list.words[1] = arena.address / 2 ** 32;
  list.words[2] = 70000;
  const report: Record<string, unknown> = {};
  {
    using tap = Tap.open("one%d");
    report.name = tap.name;
    report.busy = kindOf(() => Tap.open(tap.name));
    report.down = writeScattered(tap.fd, list, 0, 1);
    report.empty = readScattered(tap.fd, list, 0, 1);
    ip("link", "set", tap.name, "arp", "off", "up");
    ip("addr", "add", "10.9.0.1/24", "dev", tap.name);
    ip("neigh", "add", "10.9.0.2", "lladdr", "02:00:00:00:00:02", ...[
      "dev",
      tap.name,
    ]);
    report.known = tap.setOffload(
      TapOffload.CSUM | TapOffload.TSO4 | TapOffload.TSO6 |
        TapOffload.TSO_ECN,
    );
    report.unknown = tap.setOffload(0x4000_0000);
    // Its first segment is the frame; nobody will ever answer it.
    Deno.connect({ hostname: "10.9.0.2", port: 9 }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 0));
    // Neighbour discovery goes first on some kernels: look for IPv4.
    let frame: number[];
    do frame = receive(tap, list, arena.u8); while (frame[12] !== 8);
    report.frame = frame.slice(0, 6).concat(frame.slice(12, 15));
    using adopted = Tap.adopt(dupFd(tap.fd));
    report.adopted = [adopted.name, adopted.headerSize];
  }
  {
    using first = Tap.open("many", { multiQueue: true, headerSize: 10 });
    using second = Tap.open("many", { multiQueue: true });
    report.queues = queuesOf(first.name);
    second.setAttached(false);
    report.detached = queuesOf(first.name);
    second.setAttached(true);
    report.twice = kindOf(() => second.setAttached(true));
    report.single = kindOf(() => Tap.open(first.name));
  }
  report.gone = kindOf(() => ip("link", "show", "many")).slice(0, 40);
  return report;
}

const before = openFdCount();
const report = await main();
console.log(JSON.stringify({ ...report, leaked: openFdCount() - before }));
Deno.exit(0);
