/**
 * A data plane that serves nothing: it writes down what a session asks, checks
 * that it asks nothing absurd, and can be told to fail or to take its time.
 *
 * @module
 */

import { detachMemory, viewMemory } from "../../sys/mapping.ts";
import type {
  ConfigDelegate,
  DataPlane,
  MappedLog,
  MappedRegion,
  RingSetup,
} from "../data_plane.ts";

/** Names of the calls that a session makes. */
export type PlaneCall =
  | "writeConfig"
  | "negotiate"
  | "addRegion"
  | "removeRegion"
  | "startRing"
  | "stopRing"
  | "setCall"
  | "setError"
  | "logWrites"
  | "setUsedLog"
  | "setLogFd"
  | "command"
  | "reset";

/** What a {@linkcode RecordingPlane} offers. */
export interface RecordingPlaneOptions {
  readonly deviceId?: number;
  readonly features?: bigint;
  readonly queueCount?: number;
  readonly config?: Uint8Array;
}

/** The data plane of tests of the protocol. */
export class RecordingPlane implements DataPlane {
  readonly deviceId: number;
  readonly features: bigint;
  readonly queueCount: number;
  config: Uint8Array;
  /** Who answers in place of the session. */
  configDelegate: ConfigDelegate | null = null;
  /** What was called, as `name argument…`, in order. */
  readonly calls: string[] = [];
  /** Rings that run, by index. */
  readonly running = new Map<number, RingSetup>();
  /** Regions that are there, by guest address. */
  readonly regions = new Map<number, MappedRegion>();
  /** Features that were negotiated last. */
  negotiated: bigint | null = null;
  /** Where writes are logged, as this side sees it; `null`: nowhere. */
  log: Uint8Array | null = null;
  /** Signalled when writes are logged; -1: none. */
  logFd = -1;
  /** What the session asked that makes no sense. */
  readonly violations: string[] = [];
  /** Rings stop, and are going to start again. */
  restarting = false;
  /** Whether rings were restarting, for each one that stopped. */
  readonly stops: boolean[] = [];
  /** What each ring answers when it is stopped; default: where it started. */
  readonly positions = new Map<number, number>();
  readonly #views = new Map<number, ArrayBuffer>();
  readonly #failures = new Map<PlaneCall, Error>();
  readonly #gates = new Map<PlaneCall, PromiseWithResolvers<void>>();
  readonly #arrivals = new Map<PlaneCall, PromiseWithResolvers<void>>();

  /** A device of 1 queue without features and configuration by default. */
  constructor(options: RecordingPlaneOptions = {}) {
    this.deviceId = options.deviceId ?? 0;
    this.features = options.features ?? 0n;
    this.queueCount = options.queueCount ?? 1;
    this.config = options.config ?? new Uint8Array(0);
  }

  /** Makes the next call of this name fail. */
  fail(call: PlaneCall, error: Error): void {
    this.#failures.set(call, error);
  }

  /**
   * Makes the next call of this name wait.
   *
   * @returns `arrived` resolves when the call was made; `release` ends it
   */
  hold(call: PlaneCall): { arrived: Promise<void>; release: () => void } {
    const gate = Promise.withResolvers<void>();
    const arrival = Promise.withResolvers<void>();
    this.#gates.set(call, gate);
    this.#arrivals.set(call, arrival);
    return { arrived: arrival.promise, release: () => gate.resolve() };
  }

  /** The calls since this was last asked. */
  takeCalls(): string[] {
    return this.calls.splice(0);
  }

  #require(condition: boolean, message: string): void {
    if (condition) return;
    this.violations.push(message);
    throw new Error(`The session broke the contract: ${message}`);
  }

  async #record(call: PlaneCall, ...rest: unknown[]): Promise<void> {
    this.calls.push([call, ...rest].join(" "));
    const gate = this.#gates.get(call);
    if (gate !== undefined) {
      this.#gates.delete(call);
      this.#arrivals.get(call)?.resolve();
      await gate.promise;
    }
    const failure = this.#failures.get(call);
    if (failure !== undefined) {
      this.#failures.delete(call);
      throw failure;
    }
  }

  async writeConfig(offset: number, data: Uint8Array): Promise<void> {
    this.#require(
      data.length > 0 && offset + data.length <= this.config.length,
      `a write of ${data.length} bytes at ${offset} leaves the configuration`,
    );
    await this.#record("writeConfig", offset, `[${data}]`);
  }

  async negotiate(features: bigint): Promise<void> {
    this.#require((features & ~this.features) === 0n, "features not offered");
    await this.#record("negotiate", `0x${features.toString(16)}`);
    this.negotiated = features;
  }

  async addRegion(region: MappedRegion): Promise<void> {
    const { guestAddress, hostAddress, size } = region;
    this.#require(!this.regions.has(guestAddress), "a region was added twice");
    await this.#record("addRegion", `0x${guestAddress.toString(16)}`);
    const view = viewMemory(hostAddress, size);
    new Uint8Array(view)[size - 1] |= 0; // Mapped to the last byte, or we die.
    this.#views.set(guestAddress, view);
    this.regions.set(guestAddress, region);
  }

  async removeRegion(region: MappedRegion): Promise<void> {
    const { guestAddress, size } = region;
    this.#require(
      this.regions.get(guestAddress) === region,
      "a region was removed that is not there",
    );
    for (const ring of this.running.values()) {
      for (
        const at of [ring.descriptorTable, ring.availableRing, ring.usedRing]
      ) {
        this.#require(
          at < guestAddress || at >= guestAddress + size,
          `a region was removed under ring ${ring.index}`,
        );
      }
    }
    await this.#record("removeRegion", `0x${guestAddress.toString(16)}`);
    detachMemory(this.#views.get(guestAddress)!);
    this.#views.delete(guestAddress);
    this.regions.delete(guestAddress);
  }

  async startRing(ring: RingSetup): Promise<void> {
    this.#require(!this.running.has(ring.index), "a running ring was started");
    this.#require(this.negotiated !== null, "a ring ran before any features");
    await this.#record("startRing", ring.index, `@${ring.position}`);
    this.running.set(ring.index, ring);
  }

  async stopRing(index: number, suspend = false): Promise<number> {
    const ring = this.running.get(index);
    this.#require(ring !== undefined, `ring ${index} was stopped twice`);
    this.stops.push(this.restarting);
    await this.#record("stopRing", index, ...(suspend ? ["suspend"] : []));
    this.running.delete(index);
    return this.positions.get(index) ?? ring!.position;
  }

  async restart(work: () => Promise<void>): Promise<void> {
    this.restarting = true;
    try {
      await work();
    } finally {
      this.restarting = false;
    }
  }

  async setCall(index: number, fd: number): Promise<void> {
    this.#require(this.running.has(index), `ring ${index} does not run`);
    await this.#record("setCall", index, fd < 0 ? "none" : "fd");
    this.running.set(index, { ...this.running.get(index)!, callFd: fd });
  }

  async setError(index: number, fd: number): Promise<void> {
    this.#require(this.running.has(index), `ring ${index} does not run`);
    await this.#record("setError", index, fd < 0 ? "none" : "fd");
    this.running.set(index, { ...this.running.get(index)!, errorFd: fd });
  }

  async logWrites(log: MappedLog | null): Promise<void> {
    await this.#record("logWrites", log === null ? "nowhere" : log.size);
    if (this.log !== null) detachMemory(this.log.buffer as ArrayBuffer);
    if (log === null) this.log = null;
    else {
      this.log = new Uint8Array(viewMemory(log.address, log.size));
      this.log[log.size - 1] |= 0; // Mapped to the last byte, or we die.
    }
  }

  async setUsedLog(index: number, address: number): Promise<void> {
    const ring = this.running.get(index);
    this.#require(ring !== undefined, `ring ${index} does not run`);
    await this.#record("setUsedLog", index, address);
    this.running.set(index, { ...ring!, usedLog: address });
  }

  async setLogFd(fd: number): Promise<void> {
    await this.#record("setLogFd", fd < 0 ? "none" : "fd");
    this.logFd = fd;
  }

  async command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    await this.#record("command", name, JSON.stringify(parameters));
    return null;
  }

  async reset(): Promise<void> {
    this.#require(this.running.size === 0, "a reset with a running ring");
    await this.#record("reset");
    this.negotiated = null;
  }
}
