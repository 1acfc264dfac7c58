-- Go on unpinning what was attached to digests that nothing needs any more, some at a time (H85).
--
-- KEYS 1 pins  2 manifests
-- Returns 1 where more is left, else 0.
return free(KEYS[1], KEYS[2], {}, 0) and 1 or 0
