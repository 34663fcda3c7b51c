import { MOST_DIMMS, plugAndUnplug } from "../guest/dimms.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { skipUnless } from "../support/skip.ts";

const reason = await prepareOrReason();

skipUnless(reason === null, reason ?? "").test(
  "Linux: as many DIMMs as QEMU has slots come and go under I/O",
  () => plugAndUnplug(MOST_DIMMS - 1),
);
