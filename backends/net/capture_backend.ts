/**
 * Any backend, with what goes through it written to a capture file.
 *
 * Theory of operation: it is the backend of the device and the port of the
 * backend that it wraps. A file that cannot be written any more (a full disk,
 * say) ends the capture, and frames go on.
 *
 * @module
 */

import type { DeviceContext } from "../../virtqueue/device.ts";
import { BUSY, type NetBackend, type NetPort, WAIT } from "./backend.ts";
import type { Frame } from "./frame.ts";
import { type Capture, INBOUND, OUTBOUND } from "./pcap.ts";

/** Captures what a backend sends and receives. */
export class CaptureBackend implements NetBackend, NetPort {
  readonly description: string;
  readonly takes: number;
  readonly gives: number;
  readonly maxPairs: number;
  readonly burst: number | undefined;
  readonly #backend: NetBackend;
  readonly #context: DeviceContext;
  readonly #path: string;
  #capture: Capture | null;
  #frames = 0;
  #files = 0;
  #port: NetPort | null = null;

  /** Wraps a backend; both are closed in the end. */
  constructor(
    backend: NetBackend,
    capture: Capture,
    path: string,
    context: DeviceContext,
  ) {
    this.#backend = backend;
    this.#capture = capture;
    this.#context = context;
    this.#path = path;
    this.description = `${backend.description}, captured in ${path}`;
    this.takes = backend.takes;
    this.gives = backend.gives;
    this.maxPairs = backend.maxPairs;
    this.burst = backend.burst;
  }

  get linkUp(): boolean {
    return this.#backend.linkUp;
  }

  attach(port: NetPort): void {
    this.#port = port;
    this.#backend.attach(this);
  }

  setOffloads(offloads: number): void {
    this.#backend.setOffloads(offloads);
  }

  setPairs(pairs: number): void {
    this.#backend.setPairs(pairs);
  }

  send(frame: Frame, pair: number): number {
    const capture = this.#capture;
    if (capture === null || !this.#reserve(capture)) {
      return this.#backend.send(frame, pair);
    }
    // Before: the backend may change the frame.
    const { mark } = capture;
    capture.add(frame, OUTBOUND);
    const result = this.#backend.send(frame, pair);
    if (result === BUSY) capture.undo(mark);
    return result;
  }

  receive(pair: number, budget: number): boolean {
    return this.#backend.receive(pair, budget);
  }

  poll(): number {
    const moved = this.#backend.poll?.() ?? 0;
    if (this.#capture !== null) this.#flush(this.#capture);
    return moved;
  }

  deliver(frame: Frame, pair: number, mayWait: boolean): number {
    const result = this.#port!.deliver(frame, pair, mayWait);
    const capture = this.#capture;
    if (result !== WAIT && capture !== null && this.#reserve(capture)) {
      capture.add(frame, INBOUND);
    }
    return result;
  }

  receivable(pair: number): void {
    this.#port!.receivable(pair);
  }

  sendable(): void {
    this.#port!.sendable();
  }

  linkChanged(): void {
    this.#port!.linkChanged();
  }

  status(): Record<string, unknown> {
    const { frames, files } = this.#capture ??
      { frames: this.#frames, files: this.#files };
    return {
      ...this.#backend.status(),
      capture: {
        path: this.#path,
        running: this.#capture !== null,
        frames,
        files,
      },
    };
  }

  close(): void {
    const capture = this.#capture;
    if (capture !== null) this.#flush(capture);
    this.#capture?.[Symbol.dispose]();
    this.#capture = null;
    this.#backend.close();
  }

  #reserve(capture: Capture): boolean {
    try {
      capture.reserve();
      return true;
    } catch (error) {
      this.#end(capture, error);
      return false;
    }
  }

  #flush(capture: Capture): void {
    try {
      capture.flush();
    } catch (error) {
      this.#end(capture, error);
    }
  }

  #end(capture: Capture, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#context.log(
      "error",
      `The capture in "${this.#path}" ends: ${reason}`,
    );
    this.#frames = capture.frames;
    this.#files = capture.files;
    capture[Symbol.dispose]();
    this.#capture = null;
  }
}
