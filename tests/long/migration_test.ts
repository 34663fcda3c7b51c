import { describeMove, Migration } from "../guest/migration.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";

const reason = await prepareOrReason();

skipUnless(reason === null, reason ?? "").test(
  "Linux: a guest moves ten times while it writes disks and network",
  async () => {
    await using migration = await Migration.start();
    for (let i = 1; i <= 10; i++) {
      console.log(`${i}: ${describeMove(await migration.move())}`);
    }
    await migration.finish();
  },
);
