/**
 * A backend that sends every frame back to where it came from, with its
 * addresses exchanged: for tests and measurements.
 *
 * @module
 */

import { type NetBackend, type NetPort, SENT } from "./backend.ts";
import type { Frame } from "./frame.ts";
import { MAX_PAIRS, Offload } from "./protocol.ts";

const ALL: number = Offload.CSUM | Offload.TSO4 | Offload.TSO6 | Offload.ECN |
  Offload.UFO;

/** Sends frames back. */
export class EchoBackend implements NetBackend {
  readonly description = "echo";
  readonly takes: number = ALL;
  readonly gives: number = ALL;
  readonly maxPairs: number = MAX_PAIRS;
  readonly linkUp = true;
  #port: NetPort | null = null;

  attach(port: NetPort): void {
    this.#port = port;
  }

  setOffloads(): void {}

  setPairs(): void {}

  send(frame: Frame, pair: number): number {
    frame.swapAddresses();
    this.#port!.deliver(frame, pair, false);
    return SENT;
  }

  receive(): boolean {
    return false;
  }

  status(): Record<string, unknown> {
    return {};
  }

  close(): void {}
}
