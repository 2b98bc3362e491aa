//! Volumes, as far as they can be asked about.

wire! {
    /// `GET /volumes`.
    pub struct VolumeListResponse {
        volumes: Vec<serde_json::Value> = "Volumes";
        warnings: Option<Vec<String>> = "Warnings";
    }
}
