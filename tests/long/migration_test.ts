import {
  describeMove,
  type DeviceProperties,
  Migration,
  PACKED,
} from "../guest/migration.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";

const reason = await prepareOrReason();

const guests = skipUnless(reason === null, reason ?? "");

/** How the guest writes when it moves, and with which devices. */
const KINDS: [name: string, properties: DeviceProperties][] = [
  ["with no request in flight", {}],
  [
    "with requests of the disk in flight",
    { blk: ",inflight-migration=on" },
  ],
  ["on packed rings", PACKED],
];

for (const [name, properties] of KINDS) {
  guests.test(
    `Linux: a guest moves ten times while it writes disks and network, ${name}`,
    async () => {
      await using migration = await Migration.start(properties);
      for (let i = 1; i <= 10; i++) {
        console.log(`${i}: ${describeMove(await migration.move())}`);
      }
      await migration.finish();
    },
  );
}
