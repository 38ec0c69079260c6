//! A small set with everything in it, and Steading's own.

use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use serde_json::{Value, json};

use super::{Options, comments, document, path};
use crate::Catalog;
use crate::codec::{self, EncodeOptions};

const SHOP: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/api/httpbody.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

// Sells things.
service Shop {
  // Returns an item. Quickly.
  rpc GetItem(GetItemRequest) returns (Item) {
    option (google.api.http) = {
      get: "/v1/{name=shops/*/shelves/*/items/*}"
      additional_bindings { get: "/v1/{name=archive/**}" }
    };
  }
  rpc ListItems(ListItemsRequest) returns (ListItemsResponse) {
    option (google.api.http) = {get: "/v1/{parent=shops/*/shelves/*}/items"};
  }
  rpc CreateItem(CreateItemRequest) returns (Item) {
    option (google.api.http) = {post: "/v1/{parent=shops/*/shelves/*}/items" body: "item"};
  }
  rpc UpdateItem(UpdateItemRequest) returns (Item) {
    option (google.api.http) = {patch: "/v1/{item.name=shops/*/shelves/*/items/*}" body: "item"};
  }
  rpc SellItem(SellItemRequest) returns (SellItemResponse) {
    option (google.api.http) = {post: "/v1/{name=shops/*/shelves/*/items/*}:sell" body: "*" response_body: "receipts"};
  }
  rpc WatchItems(ListItemsRequest) returns (stream Item) {
    option (google.api.http) = {get: "/v1/{parent=shops/*/shelves/*}/items:watch"};
  }
  rpc Download(GetItemRequest) returns (google.api.HttpBody) {
    option (google.api.http) = {get: "/v1/{name=shops/*/shelves/*/items/*}:download"};
  }
  rpc Upload(UploadRequest) returns (Item) {
    option (google.api.http) = {put: "/v1/uploads/{upload_id}" body: "data"};
  }
  rpc Record(stream SellItemRequest) returns (Item) {
    option (google.api.http) = {post: "/v1/records" body: "*"};
  }
  rpc Purge(GetItemRequest) returns (Item) {
    option (google.api.http) = {custom: {kind: "PURGE" path: "/v1/purge"}};
  }
  rpc Plain(GetItemRequest) returns (Item);
}
message GetItemRequest {
  // Name.
  string name = 1 [(google.api.field_behavior) = REQUIRED];
}
message ListItemsRequest {
  string parent = 1 [(google.api.field_behavior) = REQUIRED];
  int32 page_size = 2;
  repeated Colour colours = 3;
  Range range = 4;
  map<string, string> ignored = 5;
  google.protobuf.Timestamp since = 6;
  google.protobuf.Int32Value limit = 7;
  string shop_id = 8 [(google.api.field_behavior) = REQUIRED];
}
message Range { int64 low = 1; uint64 high_end = 2; Range next = 3; }
message ListItemsResponse { repeated Item items = 1; string next_page_token = 2; }
// What is sold.
message Item {
  string name = 1 [(google.api.field_behavior) = IDENTIFIER];
  // Its title.
  string title = 2 [(google.api.field_behavior) = REQUIRED];
  google.protobuf.Timestamp create_time = 3 [(google.api.field_behavior) = OUTPUT_ONLY];
  string secret = 4 [(google.api.field_behavior) = INPUT_ONLY];
  Colour colour = 5;
  // How it is packed.
  oneof packing { string box = 6; Range crate = 7; }
  map<int32, Range> ranges = 8;
  bytes picture = 9;
  google.protobuf.Duration age = 10;
  google.protobuf.Struct extra = 11;
  google.protobuf.Value any_value = 12;
  google.protobuf.ListValue list = 13;
  google.protobuf.Any detail = 14;
  google.protobuf.StringValue note = 15;
  double price = 16 [deprecated = true];
  string etag = 17;
  optional bool sold = 18;
  string serial = 19 [(google.api.field_behavior) = REQUIRED, (google.api.field_behavior) = OUTPUT_ONLY];
  Item parent = 20;
}
message CreateItemRequest {
  string parent = 1 [(google.api.field_behavior) = REQUIRED];
  string item_id = 2 [(google.api.field_behavior) = REQUIRED];
  Item item = 3 [(google.api.field_behavior) = REQUIRED];
}
message UpdateItemRequest {
  Item item = 1 [(google.api.field_behavior) = REQUIRED];
  google.protobuf.FieldMask update_mask = 2 [(google.api.field_behavior) = REQUIRED];
}
message SellItemRequest {
  string name = 1 [(google.api.field_behavior) = REQUIRED];
  string buyer = 2 [(google.api.field_behavior) = REQUIRED];
  Address address = 3;
}
message Address { string street = 1 [(google.api.field_behavior) = REQUIRED]; }
message SellItemResponse { repeated string receipts = 1; }
message UploadRequest { string upload_id = 1; google.api.HttpBody data = 2; }
// Of things.
enum Colour {
  COLOUR_UNSPECIFIED = 0;
  // Like blood.
  RED = 1;
}
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pool(includes: &[&Path], files: &[PathBuf]) -> DescriptorPool {
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(files)
        .unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

fn options() -> Options {
    Options {
        title: "Test".into(),
        version: "v1".into(),
        ..Options::default()
    }
}

fn compile(files: &[(&str, &str)]) -> DescriptorPool {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("steading-openapi-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = |(name, text): &(&str, &str)| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let paths: Vec<PathBuf> = files.iter().map(path).collect();
    let pool = pool(&[&dir, &root().join("crates/api/vendor")], &paths);
    std::fs::remove_dir_all(&dir).unwrap();
    pool
}

fn shop() -> Value {
    document(&compile(&[("shop.proto", SHOP)]), &options())
}

fn steading() -> DescriptorPool {
    let proto = root().join("proto");
    let (mut files, mut pending) = (Vec::new(), vec![proto.clone()]);
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    pool(&[&proto, &root().join("crates/api/vendor")], &files)
}

const ITEM: &str = "/paths/~1v1~1shops~1{shop}~1shelves~1{shelf}~1items~1{item}";
const ITEMS: &str = "/paths/~1v1~1shops~1{shop}~1shelves~1{shelf}~1items";

#[test]
fn an_unset_field_that_only_clients_send_is_in_no_reply() {
    let pool = compile(&[("shop.proto", SHOP)]);
    let document = document(&pool, &options());
    let secret = document.pointer("/components/schemas/shop.v1.Item/properties/secret/writeOnly");
    assert_eq!(secret, Some(&json!(true)));
    let catalog = Catalog::new(&[&pool.encode_to_vec()], &[], |_| true).unwrap();
    let (schema, mut reply) = (catalog.schema(), Vec::new());
    let item = schema.find("shop.v1.Item").unwrap();
    codec::encode(schema, item, &[], &EncodeOptions::default(), &mut reply).unwrap();
    let reply: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!((reply.get("title"), reply.get("secret")), (Some(&json!("")), None));
}

#[test]
fn a_set_becomes_the_document_that_its_rules_say() {
    let document = shop();
    let item = "#/components/schemas/shop.v1.Item";
    let table = [
        ("/openapi", json!("3.1.0")),
        ("/tags", json!([{"name": "Shop", "description": "Sells things."}])),
        (&format!("{ITEM}/get/operationId"), json!("Shop_GetItem")),
        (&format!("{ITEM}/get/summary"), json!("Returns an item")),
        (&format!("{ITEM}/get/description"), json!("Returns an item. Quickly.")),
        (
            &format!("{ITEM}/get/responses/200/content/application~1json/schema/$ref"),
            json!(item),
        ),
        (
            &format!("{ITEM}/get/responses/404/$ref"),
            json!("#/components/responses/NotFound"),
        ),
        (
            &format!("{ITEM}/get/responses/304/description"),
            json!("The resource still has the etag of `If-None-Match`."),
        ),
        (
            "/paths/~1v1~1archive~1{archive}/get/operationId",
            json!("Shop_GetItem_2"),
        ),
        (
            &format!("{ITEM}/get/parameters/1"),
            json!({
                "name": "shelf", "in": "path", "required": true,
                "description": "Segment `{shelf}` of `shops/{shop}/shelves/{shelf}/items/{item}`, the request's `name`.",
                "schema": {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
            }),
        ),
        (&format!("{ITEMS}/post/requestBody/required"), json!(true)),
        (
            &format!("{ITEMS}/post/requestBody/content/application~1json/schema"),
            json!({"allOf": [{"$ref": item}, {"required": ["title"]}]}),
        ),
        (
            &format!("{ITEM}/patch/requestBody/content/application~1json/schema"),
            json!({"$ref": item}),
        ),
        (
            &format!("{ITEM}:sell/post/requestBody/content/application~1json/schema"),
            json!({
                "type": "object",
                "properties": {"buyer": {"type": "string"}, "address": {"$ref": "#/components/schemas/shop.v1.Address"}},
                "required": ["buyer"],
                "additionalProperties": false,
            }),
        ),
        (
            &format!("{ITEM}:sell/post/responses/200/content/application~1json/schema"),
            json!({"type": "array", "items": {"type": "string"}}),
        ),
        (
            &format!("{ITEMS}:watch/get/responses/200/content/application~1json/schema"),
            json!({"type": "array", "items": {"$ref": item}}),
        ),
        (
            &format!("{ITEMS}:watch/get/responses/200/content/text~1event-stream/x-item-schema/$ref"),
            json!(item),
        ),
        (
            &format!("{ITEMS}:watch/get/responses/200/content/application~1x-ndjson/schema/type"),
            json!("string"),
        ),
        (
            &format!("{ITEM}:download/get/responses/200/content"),
            json!({"*/*": {"schema": {"type": "string", "format": "binary"}}}),
        ),
        (
            "/paths/~1v1~1uploads~1{uploadId}/put/requestBody/content",
            json!({"*/*": {"schema": {"type": "string", "format": "binary"}}}),
        ),
        (
            "/paths/~1v1~1records/post/requestBody/content/application~1x-ndjson/x-item-schema/$ref",
            json!("#/components/schemas/shop.v1.SellItemRequest"),
        ),
        (
            "/paths/~1v1~1records/post/requestBody/content/application~1json/schema/type",
            json!("array"),
        ),
        ("/x-not-represented", json!(["shop.v1.Shop.Purge: PURGE /v1/purge"])),
    ];
    for (pointer, expected) in table {
        assert_eq!(document.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(document["paths"].as_object().unwrap().len(), 8);
}

#[test]
fn types_become_the_schemas_of_their_json() {
    let document = shop();
    let schemas = &document["components"]["schemas"];
    let item = &schemas["shop.v1.Item"];
    let range = json!({"$ref": "#/components/schemas/shop.v1.Range"});
    let table = [
        ("title", json!({"type": "string", "description": "Its title."})),
        (
            "createTime",
            json!({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00Z"], "readOnly": true}),
        ),
        ("secret", json!({"type": "string", "writeOnly": true})),
        ("colour", json!({"$ref": "#/components/schemas/shop.v1.Colour"})),
        ("box", json!({"type": "string", "description": "Excludes `crate`."})),
        (
            "ranges",
            json!({"type": "object", "additionalProperties": range, "propertyNames": {"pattern": "^-?[0-9]+$"}}),
        ),
        (
            "picture",
            json!({"type": "string", "format": "byte", "contentEncoding": "base64"}),
        ),
        (
            "age",
            json!({"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["3.5s"]}),
        ),
        ("extra", json!({"type": "object", "additionalProperties": true})),
        ("anyValue", json!({})),
        ("list", json!({"type": "array", "items": {}})),
        ("note", json!({"type": ["string", "null"]})),
        (
            "price",
            json!({"type": "number", "format": "double", "deprecated": true}),
        ),
        ("sold", json!({"type": "boolean"})),
        ("parent", json!({"$ref": "#/components/schemas/shop.v1.Item"})),
    ];
    for (name, expected) in table {
        assert_eq!(item["properties"][name], expected, "{name}");
    }
    assert_eq!(
        item["description"],
        "What is sold.\n\nAt most one of `box`, `crate` may be set. How it is packed."
    );
    assert_eq!(item.get("required"), None, "an update sends a part");
    assert_eq!(item["additionalProperties"], false);
    assert_eq!(schemas["shop.v1.Address"]["required"], json!(["street"]));
    assert_eq!(schemas["shop.v1.ListItemsResponse"].get("additionalProperties"), None);
    let colour = json!({"type": "string", "enum": ["COLOUR_UNSPECIFIED", "RED"], "description": "Of things.\n\n- `RED`: Like blood."});
    assert_eq!(schemas["shop.v1.Colour"], colour);
    let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
    let used = [
        "Error",
        "shop.v1.Address",
        "shop.v1.Colour",
        "shop.v1.Item",
        "shop.v1.ListItemsResponse",
        "shop.v1.Range",
        "shop.v1.SellItemRequest",
    ];
    assert_eq!(names, used, "only what is referred to");
}

#[test]
fn fields_that_nothing_else_binds_are_query_parameters() {
    let document = shop();
    let of = |pointer: &str| document.pointer(pointer).unwrap().as_array().unwrap().clone();
    let query = |pointer: &str| -> Vec<Value> {
        of(pointer)
            .into_iter()
            .filter(|parameter| parameter["in"] == "query")
            .collect()
    };
    let list = query(&format!("{ITEMS}/get/parameters"));
    let names: Vec<&str> = list
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "pageSize",
            "colours",
            "range.low",
            "range.highEnd",
            "since",
            "limit",
            "shopId"
        ]
    );
    let colours = json!({
        "name": "colours", "in": "query", "style": "form", "explode": true,
        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/shop.v1.Colour"}},
    });
    assert_eq!(list[1], colours);
    assert_eq!(list[5]["schema"]["type"], "integer", "a query has no null");
    assert_eq!(list[6]["required"], true);
    let create = query(&format!("{ITEMS}/post/parameters"));
    assert_eq!(
        create,
        [json!({"name": "itemId", "in": "query", "required": true, "schema": {"type": "string", "minLength": 1}})]
    );
    let update = query(&format!("{ITEM}/patch/parameters"));
    assert_eq!(update[0]["name"], "updateMask");
    assert_eq!(update[0].get("required"), None, "the body implies the mask");
    let headers: Vec<Value> = of(&format!("{ITEM}/patch/parameters"))
        .into_iter()
        .filter(|p| p["in"] == "header")
        .collect();
    assert_eq!(headers[0]["name"], "If-Match");
}

#[test]
fn every_rule_of_steading_is_in_its_document() {
    let pool = steading();
    let document = document(&pool, &options());
    assert_eq!(document.get("x-not-represented"), None);
    let rules: usize = pool
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .map(|m| crate::rule::rules(&m).len())
        .sum();
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let wanted: Vec<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next())
            .collect();
        for operation in item.as_object().unwrap().values() {
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let given: Vec<&str> = parameters
                .iter()
                .filter(|p| p["in"] == "path")
                .filter_map(|p| p["name"].as_str())
                .collect();
            assert_eq!(given, wanted, "{path}");
        }
    }
    assert!(rules > 50);
    assert_eq!(ids.len(), rules);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), rules, "ids are unique");
    let mut used = std::collections::BTreeSet::new();
    super::references(&document, &mut used);
    let there: std::collections::BTreeSet<String> = document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(used, there, "nothing dangles, nothing is unused");
}

#[test]
fn the_order_of_files_does_not_matter() {
    let pool = steading();
    let mut other = DescriptorPool::new();
    let mut pending: Vec<_> = pool.files().collect();
    pending.reverse();
    while !pending.is_empty() {
        pending.retain(|file| {
            other
                .decode_file_descriptor_proto(file.encode_to_vec().as_slice())
                .is_err()
        });
    }
    let names = |pool: &DescriptorPool| pool.files().map(|file| file.name().to_owned()).collect::<Vec<_>>();
    assert_ne!(names(&pool), names(&other));
    assert_eq!(
        document(&pool, &options()).to_string(),
        document(&other, &options()).to_string()
    );
}

#[test]
fn collections_have_singulars() {
    for (plural, singular) in [
        ("projects", "project"),
        ("machinePools", "machinePool"),
        ("policies", "policy"),
        ("classes", "class"),
        ("boxes", "box"),
        ("batches", "batch"),
        ("shelves", "shelf"),
        ("archives", "archive"),
        ("nodes", "node"),
        ("instances", "instance"),
        ("statuses", "status"),
        ("status", "status"),
        ("address", "address"),
        ("series", "series"),
        ("data", "data"),
        ("databases", "database"),
        ("caches", "cache"),
        ("s", "s"),
    ] {
        assert_eq!(path::singular(plural), singular, "{plural}");
    }
}

#[test]
fn comments_lose_what_is_not_for_readers() {
    assert_eq!(comments::clean(" One.\n Two.\n\n   code\n"), "One.\nTwo.\n\n  code");
    assert_eq!(
        comments::clean(" Kept. (-- not\n this --) End.\n buf:lint:ignore X\n"),
        "Kept.  End."
    );
    assert_eq!(comments::clean(" (-- never ends"), "");
    assert_eq!(
        comments::summary("Does this,\nthat. And more.\n\nLong."),
        "Does this, that"
    );
}

#[test]
fn what_would_collide_gets_names_of_its_own() {
    let file = |package: &str, rules: &str| {
        format!(
            "syntax = \"proto3\"; package {package}; import \"google/api/annotations.proto\";
             service Api {{ rpc Get(Request) returns (Error) {{ option (google.api.http) = {{ {rules} }}; }} }}
             message Request {{ string a = 1; string b = 2; Request inner = 3; }} message Error {{ string text = 1; }}"
        )
    };
    let one = file("one", "custom: {kind: \"*\" path: \"/one/{a=x/*/x/*}/{b=*/*}\"}");
    let two = file(
        "two",
        "get: \"/two/{a}\" additional_bindings {put: \"/two/{b}\" body: \"*\"} additional_bindings {get: \"/two/{a=**}\"}",
    );
    let bare = file("bare", "get: \"/bare\"").replace("package bare;", "");
    let document = document(
        &compile(&[("one.proto", &one), ("two.proto", &two), ("bare.proto", &bare)]),
        &options(),
    );
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            ids.push(format!("{verb} {path} {}", operation["operationId"].as_str().unwrap()));
        }
    }
    let wanted = [
        "get /bare Api_Get",
        "get /one/x/{x}/x/{x_2}/{segment}/{segment_2} one_Api_Get_get",
        "put /one/x/{x}/x/{x_2}/{segment}/{segment_2} one_Api_Get_put",
        "post /one/x/{x}/x/{x_2}/{segment}/{segment_2} one_Api_Get_post",
        "delete /one/x/{x}/x/{x_2}/{segment}/{segment_2} one_Api_Get_delete",
        "patch /one/x/{x}/x/{x_2}/{segment}/{segment_2} one_Api_Get_patch",
        "get /two/{a} two_Api_Get",
        "put /two/{a} two_Api_Get_2",
    ];
    assert_eq!(ids, wanted);
    assert_eq!(document["x-not-represented"], json!(["two.Api.Get: GET /two/{a=**}"]));
    let schemas: Vec<&String> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    assert!(schemas.iter().any(|name| *name == "Error_"), "{schemas:?}");
    let query: Vec<&str> = document["paths"]["/bare"]["get"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(query, ["a", "b"], "a type inside itself is not unfolded");
}
