"""The DynamoDB store: `dynamodb://`."""
