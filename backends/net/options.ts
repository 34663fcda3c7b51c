/**
 * The options of a virtio network device.
 *
 * @module
 */

import { type GivenOptions, OptionReader, refuse } from "../option_reader.ts";
import type { OptionSpec } from "../option_schema.ts";
import { MAC_SIZE, MAX_PAIRS } from "./protocol.ts";

/** Smallest MTU that can be offered. Source: virtio 1.4, section 5.1.4.1. */
export const MIN_MTU = 68;
/** Largest MTU that can be offered. */
export const MAX_MTU = 65535;
/** Bytes of a capture file after which a new one is begun. */
const CAPTURE_SIZE = 64 * 2 ** 20;

/** What a network device is configured with. JSON values only. */
export interface NetOptions {
  /** `"tap"`, `"passt"`, `"switch"` or `"echo"`. */
  readonly backend: string;
  /** TAP: name of the interface (default `vhostd%d`). */
  readonly ifname?: string;
  /** TAP: descriptor of an open queue, in place of `ifname`. */
  readonly tapfd?: number;
  /** passt: the program (default: `passt` on PATH). */
  readonly passt?: string;
  /** passt: socket of one that runs already. */
  readonly passtSocket?: string;
  /** passt: more arguments, separated by spaces. */
  readonly passtArgs?: string;
  /** switch: its name (default `lan0`). */
  readonly name?: string;
  /** switch: what it is joined to, `"tap:IFNAME"`. */
  readonly uplink?: string;
  /** Capture file. */
  readonly pcap?: string;
  /** Bytes of the capture file after which a new one is begun (default 64 MiB). */
  readonly pcapSize?: number;
  /** Number of queue pairs, 1 to 127 (default 1). */
  readonly queues?: number;
  /** TAP: threads that share the pairs, 1 to 64 (default 1). */
  readonly workers?: number;
  /** MAC address, `52:54:00:12:34:56`; without it the driver makes one up. */
  readonly mac?: string;
  /** MTU, 68 to 65535; without it none is said. */
  readonly mtu?: number;
  /** Mbit/s that the driver is told (default: nothing). */
  readonly speed?: number;
  /** `"up"` (default) or `"down"`. */
  readonly link?: string;
  /** Take frames without checksum (default true). */
  readonly csum?: boolean;
  /** Take TCP segments larger than the MTU (default true). */
  readonly tso?: boolean;
  /** Take UDP datagrams larger than the MTU (default true). */
  readonly ufo?: boolean;
  /** Hand over frames without checksum (default true). */
  readonly guestCsum?: boolean;
  /** Hand over TCP segments larger than the MTU (default true). */
  readonly guestTso?: boolean;
  /** Hand over UDP datagrams larger than the MTU (default true). */
  readonly guestUfo?: boolean;
  /** Frames may take several receive buffers (default true). */
  readonly mrgRxbuf?: boolean;
  /** Offer a control queue (default true). */
  readonly ctrlVq?: boolean;
  /** Ask the driver to announce itself (default true). */
  readonly announce?: boolean;
}

/** Options as the device uses them: checked and complete. */
export interface ResolvedNetOptions {
  /** What frames go to. */
  readonly backend: "tap" | "passt" | "switch" | "echo";
  /** TAP: name of the interface. */
  readonly ifname: string;
  /** TAP: descriptor of an open queue, or -1. */
  readonly tapfd: number;
  /** passt: the program, a path or a name to be found on PATH. */
  readonly passt: string;
  /** passt: socket of one that runs already, or empty. */
  readonly passtSocket: string;
  /** passt: more arguments. */
  readonly passtArgs: readonly string[];
  /** switch: its name. */
  readonly name: string;
  /** switch: interface of the TAP that it is joined to, or empty. */
  readonly uplink: string;
  /** Capture file, or empty. */
  readonly pcap: string;
  /** Bytes of the capture file after which a new one is begun. */
  readonly pcapSize: number;
  /** Number of queue pairs. */
  readonly queues: number;
  /** Number of threads that share the pairs. */
  readonly workers: number;
  /** MAC address, or `null`: the driver makes one up. */
  readonly mac: Uint8Array | null;
  /** MTU, or 0: none is said. */
  readonly mtu: number;
  /** Mbit/s, or 0: none is said. */
  readonly speed: number;
  /** Whether the link starts up. */
  readonly link: boolean;
  /** Take frames without checksum. */
  readonly csum: boolean;
  /** Take TCP segments larger than the MTU. */
  readonly tso: boolean;
  /** Take UDP datagrams larger than the MTU. */
  readonly ufo: boolean;
  /** Hand over frames without checksum. */
  readonly guestCsum: boolean;
  /** Hand over TCP segments larger than the MTU. */
  readonly guestTso: boolean;
  /** Hand over UDP datagrams larger than the MTU. */
  readonly guestUfo: boolean;
  /** Frames may take several receive buffers. */
  readonly mrgRxbuf: boolean;
  /** Offer a control queue. */
  readonly ctrlVq: boolean;
  /** Ask the driver to announce itself. */
  readonly announce: boolean;
}

function flagSpec(name: string, help: string): OptionSpec {
  return { name, type: "flag", default: true, help };
}

/** The schema of the options, for parsers, help texts and reference pages. */
export const NET_OPTIONS: readonly OptionSpec[] = [
  {
    name: "backend",
    type: "choice",
    choices: ["tap", "passt", "switch", "echo"],
    required: true,
    help: "what frames go to; echo sends them back",
  },
  {
    name: "ifname",
    type: "string",
    maximumLength: 15,
    default: "vhostd%d",
    help: "tap: the interface, made if there is none; %d becomes a number",
  },
  {
    name: "tapfd",
    type: "integer",
    minimum: 0,
    help: "tap: descriptor of an open TAP, in place of ifname",
  },
  {
    name: "passt",
    type: "path",
    default: "passt",
    help: "passt: the program, found on PATH if it has no slash",
  },
  {
    name: "passt-socket",
    type: "path",
    help: "passt: socket of one that runs already, in place of starting one",
  },
  {
    name: "passt-args",
    type: "string",
    help: "passt: more arguments for it, separated by spaces",
  },
  {
    name: "name",
    type: "string",
    maximumLength: 63,
    default: "lan0",
    help: "switch: its name; devices of one process meet on it",
  },
  {
    name: "uplink",
    type: "string",
    help: "switch: tap:IFNAME joins a TAP to it",
  },
  {
    name: "pcap",
    type: "path",
    help: "write all frames to this file, in pcapng format",
  },
  {
    name: "pcap-size",
    type: "size",
    minimum: 65536,
    default: CAPTURE_SIZE,
    help: "size at which the capture file becomes FILE.1 and a new one begins",
  },
  {
    name: "queues",
    type: "integer",
    minimum: 1,
    maximum: MAX_PAIRS,
    default: 1,
    help: "number of queue pairs",
  },
  {
    name: "workers",
    type: "integer",
    minimum: 1,
    maximum: 64,
    default: 1,
    help: "tap: threads that share the queue pairs",
  },
  {
    name: "mac",
    type: "string",
    help: "MAC address; without it the driver makes one up",
  },
  {
    name: "mtu",
    type: "integer",
    minimum: MIN_MTU,
    maximum: MAX_MTU,
    help: "largest packet that the driver is told of",
  },
  {
    name: "speed",
    type: "integer",
    minimum: 1,
    maximum: 0x7fffffff,
    help: "speed of the link in Mbit/s that the driver is told, full duplex",
  },
  {
    name: "link",
    type: "choice",
    choices: ["up", "down"],
    default: "up",
    help: "state of the link at the start",
  },
  flagSpec("csum", "take frames whose checksum is left to us"),
  flagSpec(
    "tso",
    "take TCP segments larger than the MTU, where the backend can",
  ),
  flagSpec(
    "ufo",
    "take UDP datagrams larger than the MTU, where the backend can",
  ),
  flagSpec("guest-csum", "hand over frames without checksum"),
  flagSpec("guest-tso", "hand over TCP segments larger than the MTU"),
  flagSpec("guest-ufo", "hand over UDP datagrams larger than the MTU"),
  flagSpec("mrg-rxbuf", "frames may take several receive buffers"),
  flagSpec("ctrl-vq", "offer a control queue: filters, queue pairs, offloads"),
  flagSpec(
    "announce",
    "ask the driver to announce itself when it moved or its link comes up",
  ),
];

/**
 * The bytes of a MAC address.
 *
 * @throws {OptionError} unless it is six pairs of hexadecimal digits, and
 * the address of one station
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseMac } from "./options.ts";
 *
 * assertEquals([...parseMac("52:54:00:12:34:56")], [82, 84, 0, 18, 52, 86]);
 * ```
 */
export function parseMac(mac: unknown): Uint8Array {
  if (typeof mac !== "string" || !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) {
    refuse(
      "mac",
      mac,
      "it is six pairs of hexadecimal digits joined by colons",
    );
  }
  const bytes = Uint8Array.from(mac.split(":"), (pair) => parseInt(pair, 16));
  if ((bytes[0] & 1) !== 0) {
    refuse("mac", mac, "it is a group's address: the first byte must be even");
  }
  if (bytes.every((byte) => byte === 0)) {
    refuse("mac", mac, "no station has this address");
  }
  return bytes.subarray(0, MAC_SIZE);
}

/** A MAC address as people write it. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join(":");
}

/** Options of one backend, which no other one has. */
const BELONGS: Readonly<Record<string, string>> = {
  ifname: "tap",
  tapfd: "tap",
  passt: "passt",
  "passt-socket": "passt",
  "passt-args": "passt",
  name: "switch",
  uplink: "switch",
};

function refuseForeign(options: OptionReader, backend: string): void {
  for (const [name, owner] of Object.entries(BELONGS)) {
    // A default that a parser filled in says nothing.
    if (owner !== backend && options.changed(name)) {
      refuse(name, options.given(name), `it is for backend=${owner}`);
    }
  }
}

function uplinkOf(options: OptionReader): string {
  const uplink = options.text("uplink");
  if (uplink === "") return "";
  const found = /^tap:(.{1,15})$/.exec(uplink);
  return found?.[1] ?? refuse("uplink", uplink, "it is tap:IFNAME");
}

function workersOf(options: OptionReader, backend: string): number {
  const workers = options.integer("workers");
  if (workers === 1) return 1;
  const queues = options.integer("queues");
  if (backend !== "tap") {
    refuse("workers", workers, `backend=${backend} has one`);
  }
  if (workers > queues) {
    const shared = queues === 1 ? "is 1 pair" : `are ${queues} pairs`;
    refuse("workers", workers, `there ${shared} to share (queues=)`);
  }
  if (options.text("ifname").includes("%")) {
    refuse(
      "workers",
      workers,
      "all of them need the name of the TAP (ifname=)",
    );
  }
  if (options.text("pcap") !== "") {
    refuse("workers", workers, "a capture (pcap=) has one");
  }
  return workers;
}

/**
 * Checks options and fills in defaults.
 *
 * @throws {OptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveNetOptions } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resolveNetOptions({ backend: "switch" }).name, "lan0");
 * ```
 */
export function resolveNetOptions(given: GivenOptions): ResolvedNetOptions {
  const options = new OptionReader(NET_OPTIONS, given);
  const backend = options.choice("backend") as ResolvedNetOptions["backend"];
  refuseForeign(options, backend);
  const tapfd = options.integer("tapfd", -1);
  const queues = options.integer("queues");
  const mac = options.given("mac");
  const ctrlVq = options.flag("ctrl-vq");
  if (queues > 1 && !ctrlVq) {
    refuse("queues", queues, "several pairs need ctrl-vq=on");
  }
  if (queues > 1 && (tapfd >= 0 || backend === "passt")) {
    const what = tapfd >= 0 ? "a descriptor is" : "passt has";
    refuse("queues", queues, `${what} one queue pair`);
  }
  if (
    options.text("passt-socket") !== "" && options.text("passt-args") !== ""
  ) {
    refuse(
      "passt-args",
      options.given("passt-args"),
      "the one on passt-socket runs",
    );
  }
  return {
    backend,
    ifname: options.text("ifname"),
    tapfd,
    passt: options.text("passt"),
    passtSocket: options.text("passt-socket"),
    passtArgs: options.text("passt-args").split(" ").filter(Boolean),
    name: options.text("name"),
    uplink: uplinkOf(options),
    pcap: options.text("pcap"),
    pcapSize: options.integer("pcap-size"),
    queues,
    workers: workersOf(options, backend),
    mac: mac === undefined ? null : parseMac(mac),
    mtu: options.integer("mtu", 0),
    speed: options.integer("speed", 0),
    link: options.choice("link") === "up",
    csum: options.flag("csum"),
    tso: options.flag("tso"),
    ufo: options.flag("ufo"),
    guestCsum: options.flag("guest-csum"),
    guestTso: options.flag("guest-tso"),
    guestUfo: options.flag("guest-ufo"),
    mrgRxbuf: options.flag("mrg-rxbuf"),
    ctrlVq,
    announce: options.flag("announce"),
  };
}
