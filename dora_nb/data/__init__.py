"""What a message carries: pictures, boxes, tables and tensors. Nothing here keeps or draws anything."""
