/**
 * What joins a switch to the network of the host: a port of it that is a TAP.
 *
 * Theory of operation: frames that the TAP has are read once a turn of the loop
 * and forwarded at once, so the uplink never waits for a guest. The backend that
 * asked for it owns it and has it polled.
 *
 * @module
 */

import type { DeviceContext } from "../../virtqueue/device.ts";
import { DELIVERED, type NetBackend, type NetPort } from "./backend.ts";
import type { Frame } from "./frame.ts";
import type { Switch, SwitchMember, SwitchPort } from "./switch.ts";
import { TapBackend } from "./tap.ts";

/** Frames that are read in one turn. */
const BUDGET = 32;

/** A device's backend on a switch, with an uplink of that switch. */
export class UplinkBackend implements NetBackend {
  readonly #device: NetBackend;
  readonly #uplink: Uplink;

  /** Joins the uplink to the switch that the device's backend is a port of. */
  constructor(device: NetBackend, uplink: Uplink) {
    this.#device = device;
    this.#uplink = uplink;
  }

  get description(): string {
    return `${this.#device.description}, uplink ${this.#uplink.label}`;
  }

  get takes(): number {
    return this.#device.takes;
  }

  get gives(): number {
    return this.#device.gives;
  }

  get maxPairs(): number {
    return this.#device.maxPairs;
  }

  get burst(): number | undefined {
    return this.#device.burst;
  }

  get linkUp(): boolean {
    return this.#device.linkUp;
  }

  attach(port: NetPort): void {
    this.#device.attach(port);
  }

  setOffloads(offloads: number): void {
    this.#device.setOffloads(offloads);
  }

  setPairs(pairs: number): void {
    this.#device.setPairs(pairs);
  }

  send(frame: Frame, pair: number): number {
    return this.#device.send(frame, pair);
  }

  receive(pair: number, budget: number): boolean {
    return this.#device.receive(pair, budget);
  }

  poll(): number {
    return this.#uplink.poll() + (this.#device.poll?.() ?? 0);
  }

  status(): Record<string, unknown> {
    return { ...this.#device.status(), uplink: this.#uplink.status() };
  }

  close(): void {
    this.#uplink.close();
    this.#device.close();
  }
}

/** A TAP as a port of a switch. */
export class Uplink implements SwitchMember, NetPort {
  readonly label: string;
  readonly #tap: TapBackend;
  readonly #switch: Switch;
  readonly #port: SwitchPort;
  #readable = true;
  #moved = 0;

  /** Joins a TAP to a switch. */
  constructor(target: Switch, interfaceName: string, context: DeviceContext) {
    this.#tap = TapBackend.open(interfaceName, 1, context);
    this.label = this.#tap.description;
    this.#switch = target;
    try {
      this.#port = target.connect(this);
    } catch (error) {
      this.#tap.close();
      throw error;
    }
    this.#tap.attach(this);
    // Receivers that did not agree get frames finished in software.
    this.#tap.setOffloads(this.#tap.gives);
  }

  /** Forwards what the TAP has; the number of frames. */
  poll(): number {
    if (!this.#readable) return 0;
    this.#moved = 0;
    this.#readable = this.#tap.receive(0, BUDGET);
    return this.#moved;
  }

  /** A frame of the switch, for the TAP. */
  accept(frame: Frame): number {
    this.#tap.send(frame, 0);
    return DELIVERED;
  }

  /** A frame of the TAP, for the switch. */
  deliver(frame: Frame, pair: number): number {
    this.#moved++;
    this.#switch.forward(this.#port, frame, pair);
    return DELIVERED;
  }

  receivable(): void {
    this.#readable = true;
  }

  sendable(): void {}

  linkChanged(): void {}

  /** Facts and counters: a JSON object. */
  status(): Record<string, unknown> {
    return this.#tap.status();
  }

  /** Leaves the switch and closes the TAP. */
  close(): void {
    this.#switch.disconnect(this.#port);
    this.#tap.close();
  }
}
