/**
 * The mode parameters of a logical unit: pages, what of them can be changed, and
 * what it is now.
 *
 * Source: SPC-5, SBC-4, MMC-6 (capabilities), the mode parameters.
 *
 * @module
 */

import { putU16, u16 } from "./bytes.ts";
import { UNIT_CDROM } from "./command.ts";
import { hex, unhex } from "./names.ts";
import type { UnitOptions } from "./unit.ts";

/** Page control: which values of a page are asked for. */
export const PageControl = {
  CURRENT: 0,
  CHANGEABLE: 1,
  DEFAULT: 2,
  SAVED: 3,
} as const;

/** A mode page: its code, subpage code, and bytes (header included). */
export interface ModePage {
  readonly page: number;
  readonly subpage: number;
  /** The default values. */
  readonly defaults: Uint8Array;
  /** Bits that MODE SELECT may change. */
  readonly changeable: Uint8Array;
  /** The values now. */
  readonly current: Uint8Array;
}

const CACHING = 0x08, CONTROL = 0x0a;
/** WCE in the third byte of the caching page. */
const WCE = 0x04;

function makePage(
  page: number,
  subpage: number,
  length: number,
  defaults: Readonly<Record<number, number>>,
  changeable: Readonly<Record<number, number>> = {},
): ModePage {
  const head = subpage === 0 ? 2 : 4;
  const bytes = new Uint8Array(head + length);
  bytes[0] = page;
  if (subpage === 0) bytes[1] = length;
  else {
    bytes[0] |= 0x40;
    bytes[1] = subpage;
    putU16(bytes, 2, length);
  }
  const mask = bytes.slice();
  for (const [at, value] of Object.entries(defaults)) bytes[+at] = value;
  for (const [at, value] of Object.entries(changeable)) mask[+at] = value;
  return {
    page,
    subpage,
    defaults: bytes,
    changeable: mask,
    current: bytes.slice(),
  };
}

function diskPages(): ModePage[] {
  return [
    // Read-write error recovery: AWRE and ARRE, the host sees to it.
    makePage(0x01, 0, 10, { 2: 0xc0 }),
    // Caching: WCE.
    makePage(CACHING, 0, 18, { 2: WCE }, { 2: WCE }),
    // Control: D_SENSE; unrestricted reordering; SWP.
    makePage(CONTROL, 0, 10, { 3: 0x10, 8: 0xff, 9: 0xff }, {
      2: 0x04,
      4: 0x08,
    }),
    // Control extension: one initial command priority.
    makePage(CONTROL, 1, 28, {}),
    // Informational exceptions: none are reported.
    makePage(0x1c, 0, 10, { 2: 0x08 }),
  ];
}

function cdromPages(): ModePage[] {
  return [
    makePage(0x01, 0, 10, {}),
    makePage(CONTROL, 0, 10, { 3: 0x10, 8: 0xff, 9: 0xff }, { 2: 0x04 }),
    makePage(0x1c, 0, 10, { 2: 0x08 }),
    // Capabilities: reads CD-R, CD-RW, DVD; a tray that locks and ejects; 4x.
    makePage(0x2a, 0, 20, {
      2: 0x3b,
      6: 0x2d,
      8: 0x02,
      9: 0xc2,
      12: 0x02,
      13: 0x00,
      14: 0x02,
      15: 0xc2,
    }),
  ];
}

/** The mode parameters of a logical unit. */
export class ModeParameters {
  /** The pages, by page and subpage code. */
  readonly pages: readonly ModePage[];

  /** Makes the pages with their default values. */
  constructor({ kind }: Pick<UnitOptions, "kind">) {
    this.pages = kind === UNIT_CDROM ? cdromPages() : diskPages();
  }

  /** WCE of the caching page: writes may be volatile. */
  get writeCache(): boolean {
    return (this.#byte(CACHING, 2) & WCE) !== 0;
  }

  set writeCache(on: boolean) {
    const page = this.find(CACHING, 0);
    if (page !== undefined) page.current[2] = on ? WCE : 0;
  }

  /** D_SENSE of the control page. */
  get descriptorSense(): boolean {
    return (this.#byte(CONTROL, 2) & 0x04) !== 0;
  }

  /** SWP of the control page. */
  get writeProtect(): boolean {
    return (this.#byte(CONTROL, 4) & 0x08) !== 0;
  }

  /** The page of a code, if there is one. */
  find(page: number, subpage: number): ModePage | undefined {
    return this.pages
      .find((other) => other.page === page && other.subpage === subpage);
  }

  /**
   * Back to the defaults, but for a write cache that was switched off: it stays
   * so until somebody switches it on. Drivers look at WCE when they find a disk,
   * and not after a reset, which another initiator, or the transport, may have
   * caused; one that believes it to be 0 flushes nothing.
   */
  reset(): void {
    const { writeCache } = this;
    for (const { current, defaults } of this.pages) current.set(defaults);
    if (!writeCache) this.writeCache = false;
  }

  /** What {@linkcode restore} takes: the pages in hexadecimal, if any was changed. */
  get changed(): string[] | null {
    const isChanged = this.pages.some(({ current, defaults }) =>
      current.some((byte, i) => byte !== defaults[i])
    );
    return isChanged ? this.pages.map(({ current }) => hex(current)) : null;
  }

  /** Takes over what a predecessor had; pages of another kind are left alone. */
  restore(pages: readonly string[]): void {
    for (const [i, { current }] of this.pages.entries()) {
      const bytes = unhex(pages[i] ?? "");
      if (bytes.length === current.length) current.set(bytes);
    }
  }

  #byte(page: number, at: number): number {
    return this.find(page, 0)?.current[at] ?? 0;
  }
}

/** WCE in values of a page; `undefined`: it has none. */
export function writeCacheOf(
  { page, subpage }: ModePage,
  values: Uint8Array,
): boolean | undefined {
  const caching = page === CACHING && subpage === 0;
  return caching ? (values[2] & WCE) !== 0 : undefined;
}

/** Length of a page in a parameter list, its head included. */
export function pageSize(bytes: Uint8Array, at: number): number {
  return bytes[at] & 0x40 ? u16(bytes, at + 2) + 4 : bytes[at + 1] + 2;
}
