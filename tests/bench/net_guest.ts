/**
 * `deno task bench:net-guest`: TCP in bulk between a Linux guest and the host,
 * the same guest with each way out in turn: a TAP of ours and QEMU's own TAP
 * netdev, passt behind us and passt as a vhost-user back-end.
 *
 * The TAPs are in a network namespace, in which this file runs itself once more;
 * passt needs the network of the host, and so runs outside.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { NAMESPACE_ARGUMENTS } from "../../sys/testing/namespace.ts";
import { DHCP, Sink, Source, vhostUserNet } from "../guest/network.ts";
import { runLinuxGuest } from "../guest/rig/linux_guest.ts";
import { findPasst, wrapper } from "../guest/rig/network.ts";
import type { Invocation } from "../guest/rig/packages.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { ServedNet } from "../protocol/net.ts";
import { ip } from "../support/namespace.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { machineFacts, median } from "./report.ts";

const VARIABLE = "VHOSTD_BENCH_NAMESPACE";
const HOST = "10.9.0.1", GUEST = "10.9.0.2", TAP = "bench0";

const HELP = `Usage: deno task bench:net-guest [OPTION]…

Measures TCP of a Linux guest over vhostd, QEMU and passt, in turns.

  --rounds=N      rounds (default 3)
  --size=N        MiB in each direction (default 64)
  --only=WORD     ways out whose name has this word alone
  --json=FILE     write all results to a file
  --help          print this text and exit`;

/** One run, in MiB/s. */
export interface GuestRun {
  readonly name: string;
  /** From the guest to the host. */
  readonly sent: number;
  /** From the host to the guest. */
  readonly received: number;
}

/** A whole benchmark. */
export interface GuestReport {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly mebibytes: number;
  readonly runs: readonly GuestRun[];
}

/** A way out of the guest, as long as a run lasts. */
interface WayOut {
  readonly name: string;
  /** It is in the namespace. */
  readonly tap: boolean;
  /** Arguments of the device, and what to undo. */
  start(undo: AsyncDisposableStack): Promise<readonly string[]>;
}

/** Has passt listen as a vhost-user back-end. */
async function startPasst(
  passt: Invocation,
  directory: TemporaryDirectory,
  undo: AsyncDisposableStack,
): Promise<string> {
  const socket = directory.file("passt.sock");
  // It gives up its rights before it binds.
  Deno.chmodSync(directory.path, 0o777);
  const server = undo.use(ChildProcess.start(passt.command, {
    name: "passt",
    args: [
      ...[...passt.args, "--foreground", "--quiet", "--vhost-user"],
      ...["--socket", socket],
    ],
  }));
  await waitForListener(socket, server);
  return socket;
}

function waysOut(passt: Invocation): readonly WayOut[] {
  const serve = async (
    options: Readonly<Record<string, unknown>>,
    undo: AsyncDisposableStack,
  ) => {
    const { socket } = undo.use(await ServedNet.start(options));
    return vhostUserNet(socket);
  };
  return [
    {
      name: "vhostd, TAP",
      tap: true,
      async start(undo) {
        const devices = await serve({ backend: "tap", ifname: TAP }, undo);
        ip("addr", "add", `${HOST}/24`, "dev", TAP);
        ip("link", "set", TAP, "up");
        return devices;
      },
    },
    {
      name: "QEMU, TAP",
      tap: true,
      start(undo) {
        ip("tuntap", "add", TAP, "mode", "tap", "vnet_hdr");
        undo.defer(() => void ip("link", "delete", TAP));
        ip("addr", "add", `${HOST}/24`, "dev", TAP);
        ip("link", "set", TAP, "up");
        return Promise.resolve([
          "-netdev",
          `tap,id=n0,ifname=${TAP},script=no,downscript=no,vhost=off`,
          ...["-device", "virtio-net-pci,netdev=n0,romfile="],
        ]);
      },
    },
    {
      name: "vhostd, passt",
      tap: false,
      start(undo) {
        const directory = undo.use(TemporaryDirectory.make("bench"));
        const program = wrapper(directory, "passt", passt);
        return serve({ backend: "passt", passt: program }, undo);
      },
    },
    {
      name: "passt --vhost-user",
      tap: false,
      async start(undo) {
        const directory = undo.use(TemporaryDirectory.make("bench"));
        return vhostUserNet(await startPasst(passt, directory, undo));
      },
    },
  ];
}

async function measure(way: WayOut, mebibytes: number): Promise<GuestRun> {
  await using undo = new AsyncDisposableStack();
  const devices = await way.start(undo);
  const host = way.tap ? HOST : "127.0.0.1";
  await using sink = new Sink(host);
  await using source = new Source(host, mebibytes << 20);
  const address = way.tap
    ? `ip link set eth0 up; ip addr add ${GUEST}/24 dev eth0`
    : DHCP;
  const to = way.tap ? HOST : "$(cat /router)";
  const { values } = await runLinuxGuest({
    devices,
    timeout: 300_000,
    script: `
      ${address}
      now() { read up idle < /proc/uptime; echo $up; }
      say A $(now)
      # By itself nc sends a kilobyte at a time.
      nc ${to} ${sink.port} -e dd if=/dev/zero bs=64k count=${16 * mebibytes}
      say B $(now)
      nc ${to} ${source.port} < /dev/null > /dev/null
      say C $(now)
    `,
  });
  if (sink.bytes !== mebibytes << 20) {
    throw new Error(`${way.name}: ${sink.bytes} bytes arrived`);
  }
  const [a, b, c] = [values.A, values.B, values.C].map(Number);
  return {
    name: way.name,
    sent: mebibytes / (b - a),
    received: mebibytes / (c - b),
  };
}

/** Runs those of the namespace, in it. */
async function measureInNamespace(
  way: WayOut,
  mebibytes: number,
): Promise<GuestRun> {
  const { code, stdout, stderr } = await new Deno.Command("unshare", {
    args: [
      ...NAMESPACE_ARGUMENTS,
      ...[Deno.execPath(), "run", "--quiet", "--allow-all"],
      ...[new URL(import.meta.url).pathname, `--only=${way.name}`],
      `--size=${mebibytes}`,
    ],
    env: { [VARIABLE]: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new Error(decoder.decode(stderr));
  return JSON.parse(decoder.decode(stdout));
}

/** The table that people read: medians. */
export function guestTable({ runs }: GuestReport): string {
  const names = [...new Set(runs.map(({ name }) => name))];
  return [
    "| way out            | guest to host MiB/s | host to guest MiB/s |",
    "| ------------------ | ------------------: | ------------------: |",
    ...names.map((name) => {
      const own = runs.filter((run) => run.name === name);
      const cell = (direction: "sent" | "received") =>
        median(own.map((run) => run[direction])).toFixed(0).padStart(19);
      return `| ${name.padEnd(18)} | ${cell("sent")} | ${cell("received")} |`;
    }),
  ].join("\n");
}

async function main(): Promise<void> {
  const args = parseArgs(Deno.args, {
    string: ["rounds", "size", "only", "json"],
    boolean: ["help"],
    default: { rounds: "3", size: "64", only: "" },
  });
  if (args.help) return console.log(HELP);
  const mebibytes = Number(args.size);
  const inside = Deno.env.get(VARIABLE) === "1";
  // Before the namespace, which reaches no mirror.
  const reason = await prepareOrReason();
  if (reason !== null) throw new Error(reason);
  const ways = waysOut(await findPasst())
    .filter(({ name }) =>
      inside ? name === args.only : name.includes(args.only)
    );
  if (inside) {
    const [way] = ways;
    return console.log(JSON.stringify(await measure(way, mebibytes)));
  }
  const runs: GuestRun[] = [];
  for (let round = 0; round < Number(args.rounds); round++) {
    for (const way of ways) {
      runs.push(
        way.tap
          ? await measureInNamespace(way, mebibytes)
          : await measure(way, mebibytes),
      );
    }
  }
  const report: GuestReport = { machine: machineFacts(), mebibytes, runs };
  console.log(guestTable(report));
  if (args.json !== undefined) {
    Deno.writeTextFileSync(args.json, JSON.stringify(report, null, 2));
  }
}

if (import.meta.main) await main();
