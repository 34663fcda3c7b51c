/**
 * Scenarios: every device is driven, with the features it should have.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { featureMask } from "../../../virtqueue/constants.ts";
import type { Scenario } from "./context.ts";
import type { DeviceKind } from "./guest.ts";

const INDIRECT_DESC = 28, EVENT_IDX = 29, PROTOCOL_FEATURES = 30;
const VERSION_1 = featureMask(32);

/** Features that every driver of today asks for, by device. */
const EXPECTED: Readonly<Record<DeviceKind, bigint>> = {
  // CSUM, GUEST_CSUM, MAC, HOST_TSO4, MRG_RXBUF, STATUS, CTRL_VQ
  net: featureMask(0, 1, 5, 11, 15, 16, 17, INDIRECT_DESC, EVENT_IDX),
  // SEG_MAX, BLK_SIZE, FLUSH, DISCARD
  blk: featureMask(2, 6, 9, 13, INDIRECT_DESC),
  // HOTPLUG
  scsi: featureMask(1, INDIRECT_DESC),
  // MUST_TELL_HOST
  balloon: featureMask(0),
};

/** Features that QEMU has for itself: the server never sees them. */
const OF_QEMU: Readonly<Record<DeviceKind, bigint>> = {
  // MAC, STATUS, the control queue and what goes over it; SPEED_DUPLEX
  net: featureMask(2, 5, 16, 17, 18, 19, 20, 21, 23, 63),
  blk: 0n,
  scsi: featureMask(1, 2),
  balloon: 0n,
};

function hex(features: bigint): string {
  return `0x${features.toString(16)}`;
}

/** Scenarios about what a boot finds. */
export const ATTACH: readonly Scenario[] = [
  {
    name: "devices attach with the features they should have",
    quick: true,
    subjects: ["features"],
    async run({ guest, bench }) {
      const devices = await guest.system.attached(guest);
      const kinds: readonly DeviceKind[] = ["net", "blk", "scsi", "balloon"];
      for (const kind of kinds) {
        const found = devices.filter((device) => device.kind === kind);
        const disks = kind === "blk" && bench.rootOn === "blk" ? 2 : 1;
        assertEquals(
          found.length,
          disks,
          `${kind}: ${JSON.stringify(names())}`,
        );
        for (const { name, features, offered, legacy } of found) {
          const modern = kind === "balloon" || bench.mode === "modern";
          const wanted = EXPECTED[kind] | (modern ? VERSION_1 : 0n);
          assertEquals(
            features & (EXPECTED[kind] | VERSION_1),
            wanted,
            `${name} negotiated ${hex(features)}, without ` +
              hex(wanted & ~features),
          );
          if (offered !== null) assertEquals(features & ~offered, 0n, name);
          if (legacy !== null) assertEquals(legacy, !modern, name);
        }
        // What the driver asked for is what arrived here.
        const arrived = await bench.features(kind);
        assert(arrived !== null, `${kind}: no front-end`);
        const all = found.map(({ features }) => features);
        assert(
          all.some((features) =>
            (features & ~OF_QEMU[kind]) ===
              (arrived & ~OF_QEMU[kind] & ~featureMask(PROTOCOL_FEATURES))
          ),
          `${kind}: the guest has ${all.map(hex)}, the server ${hex(arrived)}`,
        );
      }
      assertEquals(await guest.system.complaints(guest), []);

      function names(): string[] {
        return devices.map(({ name, kind }) => `${name} (${kind})`);
      }
    },
  },
  {
    name: "the bus lists all devices",
    quick: true,
    subjects: ["bus"],
    async run({ guest, bench }) {
      const devices = bench.rootOn === "blk" ? 5 : 4;
      assertEquals(await guest.system.busCount(guest), devices);
    },
  },
];
