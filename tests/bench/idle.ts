/**
 * `deno task bench:idle`: what a device of each kind takes of the CPU while its
 * guest has nothing for it to do.
 *
 * Theory of operation. Each kind has a server of its own, with a supervisor and a
 * device process, as in production. A front-end of ours connects, sets the rings
 * up, has some requests served and then does nothing more. All are looked at over
 * the same time, which begins when garbage is collected and code compiled.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { ALICE, BOB, packet } from "../../backends/net/testing/packets.ts";
import {
  NAMESPACE_ARGUMENTS,
  namespaceReason,
} from "../../sys/testing/namespace.ts";
import { passtOrReason, wrapper } from "../guest/rig/network.ts";
import { BalloonGuest, FIRST_PAGE, pages } from "../protocol/balloon.ts";
import { Guest, SECTOR, T_IN } from "../protocol/disk.ts";
import { NetGuest } from "../protocol/net.ts";
import { childrenOf } from "../protocol/net_command.ts";
import { ScsiGuest } from "../protocol/scsi.ts";
import { ChildProcess, runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS, untilServing } from "../support/vhostd.ts";
import { choose } from "./blk.ts";
import {
  type Look,
  lookAt,
  type ProcessUsed,
  usedBetween,
} from "./idle_usage.ts";
import { machineFacts } from "./report.ts";

const HELP = `Usage: deno task bench:idle [OPTION]…

Serves a device of each kind with a front-end that is connected, has its rings
set up and nothing to do, and counts what their processes take of the CPU: clock
ticks of 10 ms, and by the scheduler milliseconds and how often they were woken.

  --seconds=N     how long they are looked at (default 60)
  --after=N       how long they rest before that (default 40)
  --case=TEXT     only devices whose name contains TEXT; may be repeated
  --json=FILE     write all results to a file, those of threads too
  --help          print this text and exit`;

/** Requests of each guest before it rests. */
const REQUESTS = 50;
/** Bytes of the disks. */
const IMAGE_SIZE = 4 << 20;
/** Keeps the kernel from sending frames of its own accord, and runs a command. */
const SILENT_NAMESPACE = [
  ...["unshare", ...NAMESPACE_ARGUMENTS, "sh", "-c"],
  'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; exec "$@"',
  "sh",
];

/** A kind of device. */
interface Kind {
  readonly name: string;
  /** Options of `serve`. */
  options(directory: TemporaryDirectory): string[];
  /** Has its guest do something and then nothing; it goes when disposed of. */
  use(directory: TemporaryDirectory): Promise<Disposable>;
  /** TAPs that it makes, in a namespace of its own. */
  readonly taps?: readonly string[];
  /** A program that its device process runs. */
  readonly helper?: "passt";
}

const socketOf = (directory: TemporaryDirectory, name = "device") =>
  directory.file(`${name}.sock`);

/** Options of a disk with an image of its own. */
function diskOptions(directory: TemporaryDirectory, flag: string): string[] {
  const path = directory.file("disk.img");
  Deno.writeFileSync(path, new Uint8Array(IMAGE_SIZE));
  return [`--${flag}=path=${path},socket=${socketOf(directory)}`];
}

/** A network device whose guest sends on all its queue pairs. */
async function useNet(socket: string, queues = 1): Promise<NetGuest> {
  const rings = 2 * queues + 1;
  const guest = await NetGuest.run(
    socket,
    queues === 1 ? {} : { features: ~0n, rings },
  );
  const frame = packet({ from: ALICE, to: BOB, payload: 300 }).bytes;
  guest.fill(64);
  for (let i = 0; i < REQUESTS; i++) {
    guest.send([frame], i % queues);
    await guest.sent(1, i % queues);
  }
  return guest;
}

function tap(workers: number): Kind {
  const name = workers === 1 ? "net, TAP" : `net, TAP, ${workers} Workers`;
  const more = workers === 1 ? "" : `,queues=${workers},workers=${workers}`;
  return {
    name,
    taps: ["idle0"],
    options: (directory) => [
      `--net=socket=${socketOf(directory)},backend=tap,ifname=idle0${more}`,
    ],
    use: (directory) => useNet(socketOf(directory), workers),
  };
}

const KINDS: readonly Kind[] = [
  {
    name: "blk",
    options: (directory) => diskOptions(directory, "blk"),
    use: async (directory) => {
      const guest = await Guest.run(socketOf(directory));
      for (let i = 0; i < REQUESTS; i++) await guest.request(T_IN, i, SECTOR);
      return guest;
    },
  },
  {
    name: "scsi",
    options: (directory) => diskOptions(directory, "scsi"),
    use: async (directory) => {
      const guest = await ScsiGuest.run(socketOf(directory));
      await guest.settle();
      // TEST UNIT READY
      for (let i = 0; i < REQUESTS; i++) await guest.command(Array(6).fill(0));
      return guest;
    },
  },
  {
    name: "balloon",
    options: (directory) => [`--balloon=socket=${socketOf(directory)}`],
    use: async (directory) => {
      const guest = await BalloonGuest.run(socketOf(directory));
      for (let i = 0; i < REQUESTS / 2; i++) {
        await guest.inflate(pages(FIRST_PAGE, 256));
        await guest.deflate(pages(FIRST_PAGE, 256));
      }
      return guest;
    },
  },
  {
    name: "net, switch, two ports",
    options: (directory) =>
      ["alice", "bob"].map((port) =>
        `--net=socket=${socketOf(directory, port)},backend=switch`
      ),
    use: async (directory) => {
      using guests = new DisposableStack();
      guests.use(await useNet(socketOf(directory, "bob")));
      guests.use(await useNet(socketOf(directory, "alice")));
      return guests.move();
    },
  },
  tap(1),
  tap(2),
  {
    name: "net, passt",
    helper: "passt",
    options: (directory) => [
      `--net=socket=${socketOf(directory)},backend=passt,` +
      `passt=${directory.file("passt")}`,
    ],
    use: (directory) => useNet(socketOf(directory)),
  },
];

/** What the processes of a device used. */
export interface IdleDevice {
  readonly name: string;
  readonly processes: readonly ProcessUsed[];
}

/** A whole benchmark. */
export interface IdleReport {
  readonly machine: Readonly<Record<string, string | number>>;
  /** ISO date. */
  readonly date: string;
  /** Seconds that were looked at, and of rest before them. */
  readonly seconds: number;
  readonly after: number;
  readonly devices: readonly IdleDevice[];
}

/** A device that is served, its guest at rest. */
class Resting implements AsyncDisposable {
  readonly kind: Kind;
  readonly #server: ChildProcess;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    kind: Kind,
    server: ChildProcess,
    stack: AsyncDisposableStack,
  ) {
    this.kind = kind;
    this.#server = server;
    this.#stack = stack;
  }

  static async start(kind: Kind): Promise<Resting> {
    await using stack = new AsyncDisposableStack();
    const directory = stack.use(TemporaryDirectory.make("idle"));
    if (kind.helper !== undefined) {
      const { passt } = await passtOrReason();
      wrapper(directory, "passt", passt!);
    }
    const [program, ...args] = [
      ...(kind.taps === undefined ? [] : SILENT_NAMESPACE),
      ...[Deno.execPath(), ...COMMAND_ARGUMENTS, "serve", "--management=off"],
      ...kind.options(directory),
    ];
    const server = stack.use(
      await untilServing(ChildProcess.start(program, { name: "vhostd", args })),
    );
    for (const name of kind.taps ?? []) {
      const inside = ["-t", String(server.pid), "-U", "-n"];
      await runCommand("nsenter", {
        args: [
          ...[...inside, "--preserve-credentials"],
          ...["ip", "link", "set", name, "up"],
        ],
      });
    }
    stack.use(await kind.use(directory));
    return new Resting(kind, server, stack.move());
  }

  /** A look at each of its processes. */
  look(): Look[] {
    const { pid } = this.#server;
    const devices = childrenOf(pid);
    return [
      lookAt(pid, "supervisor"),
      ...devices.map((device) => lookAt(device, "device")),
      ...devices.flatMap(childrenOf).map((helper) =>
        lookAt(helper, this.kind.helper)
      ),
    ];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Kinds that this machine can have; says why it has no others. */
async function possible(kinds: readonly Kind[]): Promise<Kind[]> {
  const reasons = new Map<Kind, string | null>();
  for (const kind of kinds) {
    if (kind.taps !== undefined) reasons.set(kind, namespaceReason());
    if (kind.helper !== undefined) {
      const { passt, reason } = await passtOrReason();
      reasons.set(kind, passt === null ? reason : null);
    }
    const reason = reasons.get(kind) ?? null;
    if (reason !== null) console.log(`Left out: ${kind.name}: ${reason}`);
  }
  return kinds.filter((kind) => (reasons.get(kind) ?? null) === null);
}

/** Looks at all of them over the same time. */
async function measure(
  resting: readonly Resting[],
  seconds: number,
): Promise<IdleDevice[]> {
  const before = resting.map((one) => one.look());
  // This is no wait for something: it is the period that is measured.
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  return resting.map((one, i) => ({
    name: one.kind.name,
    processes: one.look().map((after) => {
      const then = before[i].find(({ pid }) => pid === after.pid);
      if (then === undefined) {
        throw new Error(`${one.kind.name} was started again`);
      }
      return usedBetween(then, after);
    }),
  }));
}

/** The table that people read: Markdown. */
export function idleTable({ devices }: IdleReport): string {
  const rows = devices.flatMap(({ name, processes }) =>
    processes.map((one) =>
      `| ${name} | ${one.name} | ${one.ticks} | ${
        one.milliseconds.toFixed(1)
      } | ${one.wakes} |`
    )
  );
  return [
    "| device | process | ticks of 10 ms | ms of CPU | woken |",
    "| ------ | ------- | -------------: | --------: | ----: |",
    ...rows,
  ].join("\n");
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["seconds", "after", "case", "json"],
    boolean: ["help"],
    collect: ["case"],
    default: { seconds: "60", after: "40" },
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const seconds = Number(args.seconds), after = Number(args.after);
  if (!(seconds > 0) || !(after >= 0)) {
    console.error("--seconds takes a number above 0, --after one from 0");
    return 2;
  }
  const chosen = choose(KINDS, args.case as string[]);
  if (chosen.length === 0) return 2;
  await using stack = new AsyncDisposableStack();
  const resting: Resting[] = [];
  for (const kind of await possible(chosen)) {
    resting.push(stack.use(await Resting.start(kind)));
  }
  await new Promise((resolve) => setTimeout(resolve, 1000 * after));
  const report: IdleReport = {
    machine: machineFacts(),
    date: new Date().toISOString(),
    ...{ seconds, after, devices: await measure(resting, seconds) },
  };
  console.log(idleTable(report));
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(report, null, 1) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main());
