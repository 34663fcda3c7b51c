/**
 * A learning Ethernet switch in memory, and the backend that is a port of it.
 *
 * Theory of operation: switches are found by name among all devices of one
 * thread, so their ports call each other directly, and a frame goes from the
 * memory of the guest that sends it to that of the one that receives it, in one
 * copy. What a sender left undone (checksum, segmentation) is handed on with
 * the frame, and done where a receiver did not agree to do it. A port never
 * waits for another one: a receiver without buffers loses the frame, as on any
 * switch, and it is counted there.
 *
 * A port remembers the addresses of its last frame and what the table said of
 * them. As long as no address came, moved or went, and the clock did not move
 * either, the table need not be asked: frames come in runs.
 *
 * A switch is there as long as one of its ports.
 *
 * @module
 */

import { DELIVERED, type NetBackend, type NetPort, SENT } from "./backend.ts";
import { type Frame, HEADER_WORDS } from "./frame.ts";
import { MacTable, UNKNOWN_PORT } from "./mac_table.ts";
import { MAX_PAIRS, Offload } from "./protocol.ts";

const ALL: number = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN |
  Offload.UFO;

/** Addresses that a switch remembers. */
const TABLE_SIZE = 4096;
/** How long it does, in seconds. */
const LIFETIME = 300;
/** Frames between two looks at the clock. */
const CLOCK_INTERVAL = 64;
/**
 * Frames that one turn takes from a ring: publishing waits for all that was
 * copied, which for 32 frames costs hardly more than for 8.
 */
const BURST = 32;
/** Most ports of a switch. */
export const MAX_PORTS = 1024;

/** What is plugged into a switch. */
export interface SwitchMember {
  /** What it is, for people. */
  readonly label: string;
  /**
   * Takes a frame.
   *
   * @returns `DELIVERED`, or `DROPPED`
   */
  accept(frame: Frame, pair: number): number;
}

/** Counters of a port, as the switch sees directions. */
export class SwitchPort {
  /** Frames that came in. */
  received = 0;
  /** Frames that went out. */
  forwarded = 0;
  /** Frames that could not go out. */
  dropped = 0;
  /** Frames that came in and went to all other ports. */
  flooded = 0;
  /** Frames that came in for somebody behind the same port. */
  local = 0;
  /** Number of the port. */
  readonly index: number;
  /** What is plugged in. */
  readonly member: SwitchMember;
  /** The addresses of the last frame, as three words. */
  readonly #last = new Int32Array(3);
  #target = UNKNOWN_PORT;
  /** {@linkcode MacTable.changes} and the time of then; -1: nothing is known. */
  #changes = -1;
  #time = -1;

  /** Plugs something in. */
  constructor(index: number, member: SwitchMember) {
    this.index = index;
    this.member = member;
  }

  /**
   * Learns where a frame of this port comes from, and finds out where it goes.
   *
   * @returns a port, or `UNKNOWN_PORT`
   */
  resolve(table: MacTable, lead: Uint32Array, now: number): number {
    const last = this.#last;
    const one = lead[HEADER_WORDS] | 0;
    const two = lead[HEADER_WORDS + 1] | 0;
    const three = lead[HEADER_WORDS + 2] | 0;
    if (
      last[0] === one && last[1] === two && last[2] === three &&
      this.#time === now && this.#changes === table.changes
    ) return this.#target;
    // A group never sends.
    if ((two >>> 16 & 1) === 0) {
      const first = two >>> 16 | three << 16;
      table.learn(first, three >>> 16, this.index, now);
    }
    this.#target = (one & 1) !== 0
      ? UNKNOWN_PORT
      : table.lookup(one, two & 0xffff, now);
    last[0] = one;
    last[1] = two;
    last[2] = three;
    this.#time = now;
    this.#changes = table.changes;
    return this.#target;
  }
}

const switches = new Map<string, Switch>();

/** A switch. */
export class Switch {
  /** Its name. */
  readonly name: string;
  readonly #table: MacTable;
  readonly #ports: (SwitchPort | null)[] = [];
  readonly #clock: () => number;
  #now = 0;
  #untilClock = 0;

  /**
   * Makes a switch that nobody finds by its name; {@linkcode Switch.join} finds
   * or makes others.
   *
   * @param clock whole seconds, which only grow
   */
  constructor(
    name: string,
    clock: () => number = () => Math.floor(performance.now() / 1000),
    lifetime: number = LIFETIME,
  ) {
    this.name = name;
    this.#clock = clock;
    this.#table = new MacTable(TABLE_SIZE, lifetime);
  }

  /** The switch of a name, made if there is none in this thread. */
  static named(name: string): Switch {
    let found = switches.get(name);
    if (found === undefined) {
      found = new Switch(name);
      switches.set(name, found);
    }
    return found;
  }

  /**
   * Plugs something in.
   *
   * @throws {RangeError} when all ports are taken
   */
  connect(member: SwitchMember): SwitchPort {
    let index = this.#ports.indexOf(null);
    if (index < 0) index = this.#ports.length;
    if (index >= MAX_PORTS) {
      throw new RangeError(
        `Cannot join switch "${this.name}": all ${MAX_PORTS} ports are taken`,
      );
    }
    const port = new SwitchPort(index, member);
    this.#ports[index] = port;
    return port;
  }

  /** Unplugs a port; a switch without ports is forgotten. */
  disconnect(port: SwitchPort): void {
    this.#ports[port.index] = null;
    this.#table.forget(port.index);
    if (
      this.#ports.every((other) => other === null) &&
      switches.get(this.name) === this
    ) switches.delete(this.name);
  }

  /** Takes a frame in at a port, and out at those that it is for. */
  forward(from: SwitchPort, frame: Frame, pair: number): void {
    if (this.#untilClock-- <= 0) {
      this.#now = this.#clock();
      this.#untilClock = CLOCK_INTERVAL;
    }
    from.received++;
    const target = from.resolve(this.#table, frame.lead, this.#now);
    if (target === from.index) {
      from.local++;
      return;
    }
    if (target !== UNKNOWN_PORT) {
      const port = this.#ports[target];
      if (port !== null) this.#pass(port, frame, pair);
      return;
    }
    from.flooded++;
    const ports = this.#ports;
    for (let i = 0; i < ports.length; i++) {
      const port = ports[i];
      if (port !== null && port !== from) this.#pass(port, frame, pair);
    }
  }

  #pass(port: SwitchPort, frame: Frame, pair: number): void {
    if (port.member.accept(frame, pair) === DELIVERED) port.forwarded++;
    else port.dropped++;
  }

  /** Facts and counters: a JSON object. */
  status(): Record<string, unknown> {
    this.#now = this.#clock();
    const ports = this.#ports.filter((port) => port !== null).map((port) => {
      const { member, index, ...counters } = port;
      return { port: index, label: member.label, ...counters };
    });
    return {
      name: this.name,
      ports,
      addresses: this.#table.entries(this.#now),
      moved: this.#table.moved,
      evicted: this.#table.evicted,
    };
  }
}

/** A device's port of a switch. */
export class SwitchBackend implements NetBackend, SwitchMember {
  readonly description: string;
  readonly label: string;
  readonly takes: number = ALL;
  readonly gives: number = ALL;
  readonly maxPairs: number = MAX_PAIRS;
  readonly burst: number = BURST;
  readonly linkUp = true;
  readonly #switch: Switch;
  readonly #port: SwitchPort;
  #device: NetPort | null = null;

  /**
   * @param target the switch
   * @param label of the port, for people
   */
  constructor(target: Switch, label: string) {
    this.description = `switch "${target.name}"`;
    this.label = label;
    this.#switch = target;
    this.#port = target.connect(this);
  }

  attach(port: NetPort): void {
    this.#device = port;
  }

  setOffloads(): void {}

  setPairs(): void {}

  send(frame: Frame, pair: number): number {
    this.#switch.forward(this.#port, frame, pair);
    return SENT;
  }

  receive(): boolean {
    return false;
  }

  accept(frame: Frame, pair: number): number {
    return this.#device!.deliver(frame, pair, false);
  }

  status(): Record<string, unknown> {
    return { port: this.#port.index, switch: this.#switch.status() };
  }

  close(): void {
    this.#switch.disconnect(this.#port);
  }
}
