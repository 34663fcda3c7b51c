import { describeMove, Migration } from "../guest/migration.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";

const reason = await prepareOrReason();

const guests = skipUnless(reason === null, reason ?? "");

/** What may be in flight when the guest moves. */
const KINDS: [name: string, blk: string][] = [
  ["no request", ""],
  ["requests of the disk", ",inflight-migration=on"],
];

for (const [name, blk] of KINDS) {
  guests.test(
    `Linux: a guest moves ten times while it writes disks and network, with ${name} in flight`,
    async () => {
      await using migration = await Migration.start(blk);
      for (let i = 1; i <= 10; i++) {
        console.log(`${i}: ${describeMove(await migration.move())}`);
      }
      await migration.finish();
    },
  );
}
