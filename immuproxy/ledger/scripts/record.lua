-- Record something that changes nothing: a refusal, an unchanged push, drift.
--
-- KEYS 1 outbox
-- ARGV 1 event
publish(KEYS[1], ARGV[1], now_ms())
return 1
