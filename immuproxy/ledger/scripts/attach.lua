-- A manifest comes that others need already, listed by an index which lacked it: what it needs is pinned with it, for as
-- long as it is needed itself (H91).
--
-- KEYS 1 pins  2 manifests  3 marks
-- ARGV 1 digest by which others need it  2 needs of the manifest (its own digest may be among them)
-- Returns OK (attached now or before, or nobody needs the digest), or DELETING (a delete of something that it needs is
-- under way; wait).
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'OK' end
if marked(KEYS[3], ARGV[2]) then return 'DELETING' end
attach(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return 'OK'
