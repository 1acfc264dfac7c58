-- Usage: wrk -s manifests.lua URL -- METHOD [BODY_FILE [TAG_PREFIX]]
--
-- With TAG_PREFIX, URL ends in /manifests/, and each request goes to a tag of its own, with a manifest of its own:
-- @TAG@ in the file becomes the tag. Prints its figures as one line of JSON.

local body, prefix
local count = 0

local function new_tag()
    count = count + 1
    local tag = prefix .. count
    local manifest = body:gsub("@TAG@", tag)
    return wrk.format(nil, wrk.path .. tag, nil, manifest)
end

function init(args)
    wrk.method, prefix = args[1], args[3]
    if args[2] then
        local file = assert(io.open(args[2], "rb"))
        body = file:read("*a")
        file:close()
        wrk.body = body
        wrk.headers["Content-Type"] = "application/vnd.oci.image.manifest.v1+json"
    end
    if prefix then
        request = new_tag
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %f, "median_ms": %f, "refused": %d, "broken": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
