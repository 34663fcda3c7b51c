/**
 * The options of a memory balloon.
 *
 * @module
 */

import { featureMask } from "../../virtqueue/constants.ts";
import { type GivenOptions, OptionReader, refuse } from "../option_reader.ts";
import type { OptionSpec } from "../option_schema.ts";
import {
  BALLOON_PAGE_SIZE,
  VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
  VIRTIO_BALLOON_F_MUST_TELL_HOST,
  VIRTIO_BALLOON_F_PAGE_POISON,
  VIRTIO_BALLOON_F_PAGE_REPORTING,
  VIRTIO_BALLOON_F_STATS_VQ,
} from "./protocol.ts";

/** Largest balloon: 2^32 - 1 pages. */
export const MAX_BALLOON_SIZE: number = (2 ** 32 - 1) * BALLOON_PAGE_SIZE;

/** What a balloon is configured with. JSON values only. */
export interface BalloonOptions {
  /** Bytes that the guest is asked to give up from the start (default 0). */
  readonly size?: number;
  /** Seconds between two questions for statistics; 0: only when asked (default 10). */
  readonly statsInterval?: number;
  /** Offer STATS_VQ (default true). */
  readonly stats?: boolean;
  /** Offer MUST_TELL_HOST (default true). */
  readonly mustTellHost?: boolean;
  /** Offer DEFLATE_ON_OOM (default true). */
  readonly deflateOnOom?: boolean;
  /** Offer PAGE_REPORTING (default true). */
  readonly pageReporting?: boolean;
  /** Offer PAGE_POISON (default true). */
  readonly pagePoison?: boolean;
}

/** Options as the device uses them: checked and complete. */
export interface ResolvedBalloonOptions {
  /** Pages that the guest is asked to give up from the start. */
  readonly pages: number;
  /** Seconds between two questions for statistics; 0: only when asked. */
  readonly statsInterval: number;
  /** The feature bits to offer, as a mask. */
  readonly features: bigint;
}

/** The schema of the options, for parsers, help texts and reference pages. */
export const BALLOON_OPTIONS: readonly OptionSpec[] = [
  {
    name: "size",
    type: "size",
    minimum: 0,
    maximum: MAX_BALLOON_SIZE,
    default: 0,
    help: "memory that the guest is asked to give up from the start",
  },
  {
    name: "stats-interval",
    type: "integer",
    minimum: 0,
    maximum: 86_400,
    default: 10,
    help: "seconds between two questions for statistics; 0: only when asked",
  },
  {
    name: "stats",
    type: "flag",
    default: true,
    help: "let the guest tell statistics of its memory",
  },
  {
    name: "page-reporting",
    type: "flag",
    default: true,
    help: "let the guest report free pages, which go back to the host",
  },
  {
    name: "page-poison",
    type: "flag",
    default: true,
    help: "let the guest say what it fills free pages with",
  },
  {
    name: "deflate-on-oom",
    type: "flag",
    default: true,
    help: "let the guest take memory back before it kills processes",
  },
  {
    name: "must-tell-host",
    type: "flag",
    default: true,
    help: "have the guest tell before it uses pages from the balloon",
  },
];

/** The feature that each flag offers. */
const FEATURE_OF: Readonly<Record<string, number>> = {
  "stats": VIRTIO_BALLOON_F_STATS_VQ,
  "page-reporting": VIRTIO_BALLOON_F_PAGE_REPORTING,
  "page-poison": VIRTIO_BALLOON_F_PAGE_POISON,
  "deflate-on-oom": VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
  "must-tell-host": VIRTIO_BALLOON_F_MUST_TELL_HOST,
};

/**
 * Checks options and fills in defaults.
 *
 * @throws {OptionError} when a value is not what the option takes
 *
 * @example Usage
 * ```ts
 * import { resolveBalloonOptions } from "./options.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resolveBalloonOptions({ size: 2 ** 20 }).pages, 256);
 * ```
 */
export function resolveBalloonOptions(
  given: GivenOptions,
): ResolvedBalloonOptions {
  const options = new OptionReader(BALLOON_OPTIONS, given);
  const size = options.integer("size");
  if (size % BALLOON_PAGE_SIZE !== 0) {
    refuse("size", size, `it is a multiple of ${BALLOON_PAGE_SIZE}`);
  }
  const bits = Object.entries(FEATURE_OF)
    .filter(([name]) => options.flag(name))
    .map(([, bit]) => bit);
  return {
    pages: size / BALLOON_PAGE_SIZE,
    statsInterval: options.integer("stats-interval"),
    features: featureMask(...bits),
  };
}
