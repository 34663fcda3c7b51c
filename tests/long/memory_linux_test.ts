import { MOST_DIMMS, plugAndUnplug } from "../guest/dimms.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";

const MIB = 1 << 20;

const reason = await prepareOrReason();

skipUnless(reason === null, reason ?? "").test(
  "Linux: 512 DIMMs come and go under I/O, as many at a time as QEMU has slots",
  () =>
    plugAndUnplug({
      small: MOST_DIMMS - 1,
      online: 16,
      read: 160 * MIB,
      rounds: 2,
    }),
);
