/**
 * Which frames a driver wants to have.
 *
 * Theory of operation: a driver that owns the control queue may say so; until it
 * does, and wherever a front-end answers the control queue itself, every frame
 * passes. Tables that overflow let everything of their kind pass: filtering is
 * best effort for unicast and multicast, and exact for what the driver turned
 * off.
 *
 * Source: virtio 1.4, section 5.1.6.5.
 *
 * @module
 */

import { CtrlRx, MAC_SIZE } from "./protocol.ts";

/** Most addresses of each table. */
export const FILTER_ENTRIES = 64;
const VLANS = 4096;
const ETHERTYPE_VLAN = 0x8100;

/** All of a filter, for another one. */
export interface FilterState {
  readonly modes: Uint8Array;
  readonly unicast: Uint8Array;
  readonly multicast: Uint8Array;
  readonly vlans: Uint8Array;
  /** `null`: there were more addresses than fit. */
  readonly unicastCount: number | null;
  readonly multicastCount: number | null;
  readonly vlanFiltering: boolean;
}

/** A filter of received frames. */
export class RxFilter {
  readonly #modes = new Uint8Array(CtrlRx.NOBCAST + 1);
  readonly #mac = new Uint8Array(MAC_SIZE);
  readonly #unicast = new Uint8Array(FILTER_ENTRIES * MAC_SIZE);
  readonly #multicast = new Uint8Array(FILTER_ENTRIES * MAC_SIZE);
  #unicastCount = 0;
  #multicastCount = 0;
  /** More addresses than fit: all of that kind pass. */
  #unicastOverflow = false;
  #multicastOverflow = false;
  readonly #vlans = new Uint8Array(VLANS / 8);
  #vlanFiltering = false;
  /** Every frame passes, whatever the tables say. */
  #open = true;

  /** A filter that lets everything pass. */
  constructor() {
    this.reset();
  }

  /** Back to the start: everything passes. */
  reset(): void {
    this.#modes.fill(0);
    this.#modes[CtrlRx.PROMISC] = 1;
    this.#unicastCount = 0;
    this.#multicastCount = 0;
    this.#unicastOverflow = false;
    this.#multicastOverflow = false;
    this.#vlans.fill(0);
    this.#vlanFiltering = false;
    this.#judge();
  }

  /** Tagged frames pass for VLANs that were added, once this was called. */
  filterVlans(): void {
    this.#vlanFiltering = true;
    this.#judge();
  }

  /** The device's own address. */
  setMac(bytes: Uint8Array): void {
    this.#mac.set(bytes.subarray(0, MAC_SIZE));
  }

  /** A command of class RX: turns a mode on or off. */
  setMode(mode: number, on: boolean): void {
    this.#modes[mode] = on ? 1 : 0;
    this.#judge();
  }

  /** Replaces a table of addresses, which lie one after the other. */
  setTable(multicast: boolean, addresses: Uint8Array, count: number): void {
    const overflow = count > FILTER_ENTRIES;
    const kept = overflow ? 0 : count;
    const table = multicast ? this.#multicast : this.#unicast;
    table.set(addresses.subarray(0, kept * MAC_SIZE));
    if (multicast) {
      this.#multicastCount = kept;
      this.#multicastOverflow = overflow;
    } else {
      this.#unicastCount = kept;
      this.#unicastOverflow = overflow;
    }
  }

  /** What commands have set. */
  save(): FilterState {
    return {
      modes: this.#modes.slice(),
      unicast: this.#unicast.slice(),
      multicast: this.#multicast.slice(),
      vlans: this.#vlans.slice(),
      unicastCount: this.#unicastOverflow ? null : this.#unicastCount,
      multicastCount: this.#multicastOverflow ? null : this.#multicastCount,
      vlanFiltering: this.#vlanFiltering,
    };
  }

  /** Becomes as another filter was. */
  restore(state: FilterState): void {
    this.#modes.set(state.modes);
    this.#unicast.set(state.unicast);
    this.#multicast.set(state.multicast);
    this.#vlans.set(state.vlans);
    this.#unicastOverflow = state.unicastCount === null;
    this.#unicastCount = state.unicastCount ?? 0;
    this.#multicastOverflow = state.multicastCount === null;
    this.#multicastCount = state.multicastCount ?? 0;
    this.#vlanFiltering = state.vlanFiltering;
    this.#judge();
  }

  /** A command of class VLAN. */
  setVlan(id: number, on: boolean): void {
    const bit = 1 << (id & 7);
    if (on) this.#vlans[id >> 3] |= bit;
    else this.#vlans[id >> 3] &= ~bit;
  }

  /**
   * Whether the driver wants a frame.
   *
   * @param start the first bytes of the frame: 14, and 16 where it has a tag
   */
  accepts(start: Uint8Array): boolean {
    if (this.#open) return true;
    const modes = this.#modes;
    if (
      this.#vlanFiltering && (start[12] << 8 | start[13]) === ETHERTYPE_VLAN
    ) {
      const id = (start[14] << 8 | start[15]) & 0xfff;
      if ((this.#vlans[id >> 3] & 1 << (id & 7)) === 0) return false;
    }
    if ((start[0] & 1) !== 0) {
      if (isBroadcast(start)) return modes[CtrlRx.NOBCAST] === 0;
      if (modes[CtrlRx.NOMULTI] !== 0) return false;
      return modes[CtrlRx.PROMISC] !== 0 || modes[CtrlRx.ALLMULTI] !== 0 ||
        this.#multicastOverflow ||
        has(this.#multicast, this.#multicastCount, start);
    }
    if (modes[CtrlRx.NOUNI] !== 0) return false;
    return modes[CtrlRx.PROMISC] !== 0 || modes[CtrlRx.ALLUNI] !== 0 ||
      this.#unicastOverflow || has(this.#mac, 1, start) ||
      has(this.#unicast, this.#unicastCount, start);
  }

  #judge(): void {
    const modes = this.#modes;
    this.#open = modes[CtrlRx.PROMISC] !== 0 && modes[CtrlRx.NOMULTI] === 0 &&
      modes[CtrlRx.NOUNI] === 0 && modes[CtrlRx.NOBCAST] === 0 &&
      !this.#vlanFiltering;
  }

  /** The filter as JSON, for people. */
  toJSON(): Record<string, unknown> {
    const modes: Record<string, boolean> = {};
    for (const [name, mode] of Object.entries(CtrlRx)) {
      modes[name.toLowerCase()] = this.#modes[mode] !== 0;
    }
    return {
      ...modes,
      unicast: this.#unicastOverflow ? "all" : this.#unicastCount,
      multicast: this.#multicastOverflow ? "all" : this.#multicastCount,
      vlans: this.#vlanFiltering,
    };
  }
}

function isBroadcast(start: Uint8Array): boolean {
  return (start[0] & start[1] & start[2] & start[3] & start[4] & start[5]) ===
    0xff;
}

function has(table: Uint8Array, count: number, start: Uint8Array): boolean {
  for (let at = 0; at < count * MAC_SIZE; at += MAC_SIZE) {
    let i = 0;
    while (i < MAC_SIZE && table[at + i] === start[i]) i++;
    if (i === MAC_SIZE) return true;
  }
  return false;
}
