/**
 * A session with one region of memory and one ring in it, for tests.
 *
 * @module
 */

import type { HandshakeOptions, RingLayout } from "./front_end.ts";
import { SharedRegion } from "./front_end.ts";
import { Harness } from "./harness.ts";
import type { RecordingPlaneOptions } from "./recording_plane.ts";

/** Owns a session, its front-end and the memory of ring 0. */
export class TestRing implements AsyncDisposable {
  readonly h: Harness;
  /** 64 KiB at guest address 0x10000. */
  readonly region: SharedRegion = SharedRegion.create(0x10000, 0x10000);
  /** A ring of 8 entries, each part in a page of its own. */
  readonly layout: RingLayout = {
    size: 8,
    descriptorTable: 0x10000,
    availableRing: 0x11000,
    usedRing: 0x12000,
  };

  /** Connects; nothing was said yet. */
  constructor(options: RecordingPlaneOptions = {}) {
    this.h = Harness.open(options);
  }

  /** Negotiates and has ring 0 run. */
  async run(options?: HandshakeOptions): Promise<void> {
    await this.prepare(options);
    await this.start();
  }

  /** Has ring 0 run after {@linkcode TestRing.prepare}. */
  async start(): Promise<void> {
    await this.h.frontEnd.addMemReg(this.region);
    await this.h.frontEnd.setupRing(0, this.layout);
    await this.h.frontEnd.setVringEnable(0, true);
  }

  /** Negotiates: handshake and features. */
  async prepare(options?: HandshakeOptions): Promise<void> {
    const { frontEnd } = this.h;
    await frontEnd.handshake(options);
    await frontEnd.setFeatures(frontEnd.features);
  }

  /** Leaves, and frees the memory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.h[Symbol.asyncDispose]();
    this.region[Symbol.dispose]();
  }
}
