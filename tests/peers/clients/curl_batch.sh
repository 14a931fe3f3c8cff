# curl: uploads in several ways, makes a batch, and prints its last state and then its output.
# Arguments: base URL, API key. requests.jsonl is in the working folder.
set -euo pipefail
url=$1
key=(-H "Authorization: Bearer $2")
ask() { curl --silent --show-error --fail-with-body "${key[@]}" "$@"; }
id_in() { sed -E 's/.*"id":"([^"]+)".*/\1/'; }

upload() {
    file=$(ask "$url/files" "$@" | id_in)
    ask "$url/files/$file/content" | cmp - requests.jsonl
}
upload -F purpose=batch -F file=@requests.jsonl
upload -F 'file=@requests.jsonl;type=application/jsonl;filename="a;b\"ü.jsonl"' -F purpose=batch
upload -F purpose=batch -F 'file=<requests.jsonl'
upload -F purpose=batch -F file=@requests.jsonl -H 'Expect: 100-continue' --http1.0
upload -F purpose=batch -F file=@requests.jsonl -H 'Transfer-Encoding: chunked'
upload --http2 -F purpose=batch -F file=@requests.jsonl
upload -F purpose=batch -F file=@- < <(cat requests.jsonl)

batch=$(ask "$url/batches" --json '{
    "input_file_id": "'"$file"'", "endpoint": "/v1/chat/completions", "completion_window": "24h"
}' | id_in)
until state=$(ask "$url/batches/$batch") && [[ $state == *'"status":"completed"'* ]]; do
    sleep 0.1
done
printf '%s\n' "$state"
output=$(sed -E 's/.*"output_file_id":"([^"]+)".*/\1/' <<<"$state")
ask "$url/files/$output/content"
