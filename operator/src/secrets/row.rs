//! Reads the row that `kubectl get secret NAME` shows: whether the Secret exists, and its type. Not its metadata, since
//! annotations may contain the Secret's data (`kubectl.kubernetes.io/last-applied-configuration`).
use hyper::{
    Uri,
    header::{ACCEPT, HeaderValue},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, Resource, api::ListParams, core::Request};
use serde::Deserialize;
use serde_json::Value;

/// The row of a Secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) type_: String,
}

/// The only accepted form: an API server that does not know it refuses, and sends no data.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

impl Row {
    /// Fetches the row; none if the Secret does not exist.
    pub(super) async fn fetch(client: &Client, namespace: &str, name: &str) -> Result<Option<Self>, String> {
        let this = ListParams::default().fields(&format!("metadata.name={name}"));
        let list = Request::new(Secret::url_path(&(), Some(namespace))).list(&this);
        let mut request = list.map_err(|error| error.to_string())?;
        let uri = format!("{}&includeObject=None", request.uri()).parse::<Uri>();
        *request.uri_mut() = uri.map_err(|error| error.to_string())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(TABLE));
        let table: Table = client.request(request).await.map_err(|error| match error {
            kube::Error::Api(status) => status.message,
            error => error.to_string(),
        })?;
        Ok(table.first())
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Option<Vec<Cells>>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Cells {
    cells: Vec<Value>,
}

impl Table {
    fn first(&self) -> Option<Row> {
        let row = self.rows.iter().flatten().next()?;
        let column = self.column_definitions.iter().position(|column| column.name == "Type");
        let type_ = column.and_then(|column| row.cells.get(column)).and_then(Value::as_str);
        Some(Row { type_: type_.unwrap_or_default().to_owned() })
    }
}
