/**
 * Requests and answers between the main thread and one data Worker.
 *
 * Theory of operation
 * -------------------
 * A request is posted, counted in shared memory, and the Worker is woken
 * through its control eventfd; the answer carries the request's number. When
 * the Worker fails, every request that waits, and every later one, is refused
 * with the reason: the session drops its front-end, and the host of the device
 * decides what comes next.
 *
 * @module
 */

import { EventFd } from "../../sys/eventfd.ts";
import type { LogLevel } from "../../virtqueue/device.ts";
import type { Command, Request, WorkerMessage } from "./messages.ts";

/** After how long, in ms, an answer is late, and how often it is looked after. */
const LATE = 200;

/** A request that the data Worker refused, or could not take any more. */
export class DeviceError extends Error {
  /** Stable name of the kind of error. */
  readonly kind: string;

  /**
   * @param kind stable name
   * @param message for people
   */
  constructor(kind: string, message: string) {
    super(message);
    this.name = "DeviceError";
    this.kind = kind;
  }
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A data Worker, as the main thread talks to it. */
export class WorkerChannel {
  /** Wakes the Worker. */
  readonly control: EventFd = EventFd.create();
  /** Requests posted so far. */
  readonly posted: Int32Array<SharedArrayBuffer> = new Int32Array(
    new SharedArrayBuffer(4),
  );
  /** Resolves when the Worker failed. */
  readonly failed: Promise<DeviceError>;
  /** Called when the configuration space changed. */
  onConfig: (config: Uint8Array, notify: boolean) => void = () => {};
  /** Called again and again while an answer is late. */
  onLate: () => void = () => {};
  /** The Worker was ended. */
  closed = false;
  #failure: DeviceError | null = null;
  #reportFailure!: (error: DeviceError) => void;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();
  readonly #worker: Worker;
  readonly #log: (level: LogLevel, message: string) => void;

  /** Starts a Worker. */
  constructor(log: (level: LogLevel, message: string) => void) {
    this.#log = log;
    this.failed = new Promise((resolve) => this.#reportFailure = resolve);
    this.#worker = new Worker(
      new URL("./data_worker.ts", import.meta.url),
      { type: "module" },
    );
    this.#worker.onmessage = (event: MessageEvent<WorkerMessage>) =>
      this.#receive(event.data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new DeviceError("worker-failed", event.message));
    };
  }

  /** Asks the Worker; its answer. Rejects with a {@linkcode DeviceError}. */
  request(command: Command): Promise<unknown> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    if (this.closed) {
      return Promise.reject(new DeviceError("closed", "The device is closed"));
    }
    const id = this.#nextId++;
    const request: Request = { id, command };
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(request);
      Atomics.add(this.posted, 0, 1);
      this.control.signal();
    });
    const late = setInterval(() => this.onLate(), LATE);
    return answer.finally(() => clearInterval(late));
  }

  /** Ends the Worker. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#worker.terminate();
    this.control.close();
  }

  #receive(message: WorkerMessage): void {
    switch (message.type) {
      case "answer":
        return this.#take(message.id)?.resolve(message.value);
      case "refusal":
        return this.#take(message.id)?.reject(
          new DeviceError(message.kind, message.message),
        );
      case "config-changed":
        return this.onConfig(message.config, message.notify);
      case "log":
        return this.#log(message.level, message.message);
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #fail(error: DeviceError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#reportFailure(error);
  }
}
